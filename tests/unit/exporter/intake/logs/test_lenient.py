"""Odd parts of a line, where nobody reads them, keep nothing else of it from being read."""

import pytest

from exporter.intake.logs.lenient import MAX_DEPTH, decode, inner

LIST = b"[" * 5000 + b"]" * 5000
ODD = {
    "half an emoji": rb'"Monsooned \ud83d"',
    "the other half": rb'"\ude00"',
    "NaN": b"NaN",
    "infinities": b"[Infinity, -Infinity]",
    "a number too large for a float": b"1e999",
    "an integer of 30 digits": b"123456789012345678901234567890",
    "an integer of 6,000 digits": b"9" * 6000,
    "raw control characters": b'"a\tb\x00\x1b[0m\x7f"',
    "a Latin-1 byte": b'"caf\xe9"',
    "half a UTF-8 character": b'"caf\xc3"',
    "a path of Windows": rb'"C:\Users\program"',
    "a hexadecimal escape": rb'"\x41"',
    "very deep lists": LIST,
    "very deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "brackets in text": b'"' + b"[{" * 3000 + b'\\""',
    "deep lists in odd text": b'["\xe9\\"]", ' + LIST + b"]",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_is_odd_elsewhere_does_no_harm(odd: bytes) -> None:
    for key in (b'"odd"', b'"\xe9\\ud83d"'):
        line = b'{"first": "\xc3\xa9", ' + key + b": " + odd + b', "last": [1]}'
        value = decode(line)
        assert (value["first"], value["last"]) == ("é", [1])


def test_the_last_of_equal_keys_counts() -> None:
    assert decode(b'{"a": 1, "b": "\xe9", "a": 2}')["a"] == 2


NO_JSON = [b'{"a": NaN', b'{"a": "' + b'\\"' * 100_000, b"[" * 1_000_000, LIST + b"]", b"{'a': 1}"]


@pytest.mark.parametrize("line", NO_JSON)
def test_what_is_no_json_is_refused_in_linear_time(line: bytes) -> None:
    with pytest.raises(ValueError, match="column"):
        decode(line)


def test_the_bound_of_depth_keeps_what_is_above_it() -> None:
    value = decode(b"[" * MAX_DEPTH + b"NaN, 7" + b"]" * MAX_DEPTH)
    for _ in range(MAX_DEPTH - 1):
        value = value[0]
    assert value[1] == 7


def test_text_that_holds_an_object() -> None:
    assert inner(' {"a": NaN, "b": "\ud83d"}') is not None
    assert inner('"text"') is inner("{half") is inner("[1]") is None
