"""YAML and JSON documents: exact decimals, and one sentence for what is malformed."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from common.errors import UserError
from common.yamlfile import dump, parse_document, read_document


@pytest.mark.parametrize("suffix", ["yml", "json"])
def test_decimals_survive_a_document_exactly(suffix: str) -> None:
    path = Path(f"x.{suffix}")
    document = {"a": Decimal("0.85"), "b": [1, True, None, "0.1"], "c": {"d": Decimal("100.0")}}
    assert parse_document(dump(document, path), path) == document


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: [", "\t- x", "!!python/object:os.system x", "a: *x"]
)
def test_a_malformed_document_is_one_sentence_with_the_files_name(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "x.yml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.yml is not valid") as refused:
        read_document(path)
    assert "\n" not in str(refused.value)


def test_a_huge_document_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(UserError, match="larger than 1 MiB"):
        read_document(path)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n"
    for below, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("suffix", "text", "words"),
    [
        ("yml", BOMB, "too many keys and values"),
        ("yml", f"a: &a {'x' * 30_000}\nb: [{'*a, ' * 300}]", "too many keys and values"),
        ("yml", "\n".join(f"k{n}: 1" for n in range(600)), "too many keys and values"),
        ("json", str(dict.fromkeys(map(str, range(600)), 1)).replace("'", '"'), "too many"),
        ("yml", "a: &a [*a]", "nested more than 64 deep"),
        ("json", "[" * 65 + "]" * 65, "nested more than 64 deep"),
        ("yml", "a: 1.0e+999999999", "the number 1.0e+999999999 is out of range"),
        ("json", '{"a": 1e-999999999}', "the number 1e-999999999 is out of range"),
        ("yml", "a: !!float no", "is not valid"),
    ],
    ids=["laughs", "one long text", "keys", "keys in JSON", "itself", "deep", "huge", "tiny", "no"],
)
def test_a_document_that_would_explode_is_one_sentence_soon(
    suffix: str, text: str, words: str
) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as refused:
        parse_document(text.encode(), Path(f"x.{suffix}"), max_nodes=1000)
    assert len(str(refused.value)) < 200


def test_an_alias_stands_for_what_it_names() -> None:
    assert parse_document(b"a: &a {b: 1}\nc: [*a, *a]", Path("x.yml"))["c"] == [{"b": 1}] * 2
