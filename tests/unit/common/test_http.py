"""Listen addresses and ports."""

import os

import pytest

from common.errors import UserError
from common.http import bind, is_loopback, parse_listen
from common.listener import port_holder


def test_addresses() -> None:
    assert parse_listen("127.0.0.1:8000") == ("127.0.0.1", 8000)
    assert parse_listen("[::1]:8000") == ("::1", 8000)
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    for wrong in ("8000", ":8000", "h:x", "h:99999"):
        with pytest.raises(UserError, match="HOST:PORT"):
            parse_listen(wrong)


def test_a_port_that_is_taken_names_who_holds_it() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert f"(pid {os.getpid()})" in (port_holder(port) or "")
        with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*held by"):
            bind("127.0.0.1", port)
