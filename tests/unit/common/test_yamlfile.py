"""YAML and JSON documents: exact decimals, and one sentence for what is malformed."""

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
