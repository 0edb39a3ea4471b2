"""Tokens: where they come from, what is too weak, and what matches."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.auth import bearer_matches, read_token
from common.errors import UserError
from tests.support.odd_files import ODD


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    assert read_token("admin", file, {}) == "0123456789abcdef"
    assert read_token("admin", None, {"LLM_BUDGET_ADMIN_TOKEN_FILE": str(file)}) is not None
    assert read_token("admin", None, {"LLM_BUDGET_ADMIN_TOKEN": "x" * 16}) == "x" * 16
    assert read_token("admin", None, {}) is None


@pytest.mark.parametrize("token", ["short", "x" * 15, "0123456789abcdé-", "a" * 16 + "\x07"])
def test_a_weak_token_is_refused_and_never_shown(token: str) -> None:
    with pytest.raises(UserError) as refused:
        read_token("admin", None, {"LLM_BUDGET_ADMIN_TOKEN": token})
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        ("Bearer 0123456789abcdef", True),
        ("bearer 0123456789abcdef", True),
        ("Basic 0123456789abcdef", False),
        ("Bearer 0123456789abcdeg", False),
        ("Bearer \u20ac", False),
        ("Bearer", False),
        (None, False),
    ],
)
def test_only_the_right_bearer_token_matches(header: str | None, matches: bool) -> None:
    assert bearer_matches(header, "0123456789abcdef") is matches


def test_a_token_file_that_is_missing_is_named_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        read_token("admin", tmp_path / "token", {})
    said = f"cannot read the admin token file {tmp_path}/token: No such file or directory"
    assert str(refused.value) == said


@pytest.mark.parametrize("odd", ODD)
def test_a_token_file_that_hangs_or_never_ends_is_refused(
    odd: Callable[[Path], None], tmp_path: Path
) -> None:
    odd(tmp_path / "token")
    with pytest.raises(UserError, match="cannot read the admin token file"):
        read_token("admin", tmp_path / "token", {})
