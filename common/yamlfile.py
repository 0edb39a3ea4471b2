"""YAML and JSON documents with exact decimals; schemas by msgspec, errors with the key path."""

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from common.errors import UserError
from common.files import read_file

T = TypeVar("T")
MAX_DOCUMENT_BYTES = 1 << 20  # a config beyond 1 MiB is a mistake
MAX_NODES = 100_000  # keys and values; more take seconds to parse
MAX_EXPONENT = 308  # a float's
MAX_DEPTH = 64
TEXT_BYTES = 256  # of a text count as one more
TOO_MANY = "it has too many keys and values, aliases written out"


class _Loader(yaml.SafeLoader):
    """SafeLoader that keeps decimals exact, refuses a key written twice, and bounds its work."""

    def __init__(self, stream: bytes, max_nodes: int) -> None:
        super().__init__(stream)
        self._left = max_nodes

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(TOO_MANY)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, count in Counter(key for key in keys if isinstance(key, str)).items():
            if count > 1:
                problem = f"the key {key!r} is written twice"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> Decimal | str:
        text = self.construct_scalar(node).replace("_", "").lower()
        if ":" in text:
            return self.construct_text(node)
        return _number(text.replace(".inf", "inf").replace(".nan", "nan"))

    def construct_integer(self, node: yaml.ScalarNode) -> int | str:
        return self.construct_text(node) if ":" in node.value else self.construct_yaml_int(node)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        return str(self.construct_scalar(node))


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """SafeDumper (libyaml's is five times as fast) that knows Decimal and never writes anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _number(text: str) -> Decimal:
    """Raises ValueError for one that would take megabytes to write out, such as 1e9999999."""
    number = Decimal(text)
    if abs(number.adjusted()) > MAX_EXPONENT:
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


# 16:30 stays text: YAML 1.1 would read it in base 60, as 990. Dates stay text, too: a config has
# none, and YAML's guess (2026-11-23 -> date) only surprises.
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_decimal)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_text)
_Dumper.add_representer(
    Decimal, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", f"{value:f}")
)


def _bound(document: Any, max_nodes: int) -> None:
    """Raises ValueError for one with too many keys and values, YAML's aliases written out."""
    floor, count = [document], 0
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in floor:
            count += 1 + (len(item) // TEXT_BYTES if isinstance(item, str) else 0)
            inner += item if isinstance(item, dict | list) else ()
            inner += item.values() if isinstance(item, dict) else ()
            if count + len(inner) > max_nodes:
                raise ValueError(TOO_MANY)
        floor = inner
    if floor:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def read_document(path: Path) -> Any:
    """A YAML file's plain content (JSON by the extension .json), with Decimal. Raises UserError."""
    return parse_document(read_raw(path), path)


def read_raw(path: Path) -> bytes:
    """A document's bytes. Raises UserError when they cannot be read, or are no config's."""
    try:
        return read_file(path, MAX_DOCUMENT_BYTES)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def parse_document(raw: bytes, path: Path, max_nodes: int = MAX_NODES) -> Any:
    """Parse a document read from path (used for its extension and in errors). Raises UserError.

    max_nodes: keys and values that it may have, every YAML alias written out.
    """
    try:
        if path.suffix == ".json":
            document = json.loads(raw, parse_float=_number)
        else:
            document = _Loader(raw, max_nodes).get_single_data()
        _bound(document, max_nodes)
        return document
    except (ValueError, ArithmeticError, yaml.YAMLError, RecursionError, LookupError,
            AttributeError) as error:  # fmt: skip
        # What PyYAML makes of "!!float no", "!!bool no?" and "!!timestamp then", among others.
        problem = " ".join(str(error).split())
        raise UserError(f"{path} is not valid: {problem}") from error


def decode(document: Any, kind: type[T], path: Path) -> T:
    """Validate a plain document as kind. Raises UserError that names the file and the key path."""
    try:
        return msgspec.convert(document, kind)
    except (msgspec.ValidationError, UserError) as error:
        raise UserError(f"{path}: {error}") from error


def read_as(path: Path, kind: type[T]) -> T:
    """read_document and decode in one; an empty file reads as an empty mapping."""
    document = read_document(path)
    return decode({} if document is None else document, kind, path)


def dump(document: Any, path: Path) -> bytes:
    """A plain document as YAML, or as JSON when path ends in .json; key order kept."""
    if path.suffix == ".json":
        text = json.dumps(document, indent=2, ensure_ascii=False, default=_json_number)
        return f"{text}\n".encode()
    style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "default_flow_style": False}
    return bytes(yaml.dump(document, Dumper=_Dumper, encoding="utf-8", **style))


def _json_number(value: Decimal) -> float | int:
    """float's shortest repr gives back every config-sized decimal."""
    return float(value) if "." in f"{value:f}" else int(value)
