"""YAML and JSON documents with exact decimals; schemas by msgspec, errors with the key path."""

import json
from collections import Counter
from decimal import Decimal
from itertools import chain
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
NODE_BYTES = 256  # of a text count as one more


class _Loader(yaml.SafeLoader):
    """SafeLoader that keeps decimals exact, refuses a key written twice, and bounds its work."""

    def __init__(self, stream: bytes, max_nodes: int) -> None:
        super().__init__(stream)
        self._max_nodes = max_nodes
        self._composed = 0
        self._sizes: dict[int, int] = {}  # of each whole node, its aliases written out

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Bounded as it is written, and with its aliases written out: nested ones explode."""
        self._composed += 1
        alias = self.check_event(yaml.AliasEvent)
        node: yaml.Node | None = super().compose_node(parent, index)
        if not alias:
            self._sizes[id(node)] = 1 + self._inner_size(node)
        # An alias of what is not whole yet stands for itself, without end.
        size = self._sizes.get(id(node), self._max_nodes + 1)
        _bound(max(self._composed, size), self._max_nodes)
        return node

    def _inner_size(self, node: yaml.Node | None) -> int:
        if isinstance(node, yaml.ScalarNode):
            return len(node.value) // NODE_BYTES
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = chain.from_iterable(parts) if isinstance(node, yaml.MappingNode) else parts
        return sum(self._sizes[id(part)] for part in inner)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        counts = Counter(key for key in keys if isinstance(key, str))
        for key, count in counts.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is written twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """SafeDumper (libyaml's is five times as fast) that knows Decimal and never writes anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal | str:
    text = str(loader.construct_scalar(node)).replace("_", "")
    if ":" in text:
        return _text(loader, node)
    return _number(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _number(text: str) -> Decimal:
    """Raises ValueError for one that would take megabytes to write out, such as 1e9999999."""
    number = Decimal(text)
    if abs(number.adjusted()) > MAX_EXPONENT:
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | str:
    return _text(loader, node) if ":" in node.value else loader.construct_yaml_int(node)


# 16:30 stays text: YAML 1.1 would read it in base 60, as 990.
_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
# Dates stay text: a config has none, and YAML's guess (2026-11-23 -> date) only surprises.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _text)
_Dumper.add_representer(
    Decimal, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", f"{value:f}")
)


def nodes_in(document: Any) -> int:
    """How many keys and values a document has. Raises ValueError when it is nested too deeply."""
    floor, count, depth = [document], 0, 0
    while floor:
        if (depth := depth + 1) > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        inner: list[Any] = []
        for item in floor:
            parts = item.values() if isinstance(item, dict) else item
            inner += parts if isinstance(item, dict | list) else ()
            count += 1 + (len(item) if isinstance(item, dict) else 0)
        floor = inner
    return count


def _bound(count: int, max_nodes: int) -> None:
    if count > max_nodes:
        raise ValueError(f"it has more than {max_nodes:,} keys and values, aliases written out")


def read_document(path: Path) -> Any:
    """The plain content of a YAML file (JSON by the extension .json), decimals as Decimal.

    Raises UserError naming the file when it is missing, unreadable, too large or malformed.
    """
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
        _bound(nodes_in(document), max_nodes)
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
        return text.encode() + b"\n"
    text = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return text.encode()


def _json_number(value: Decimal) -> float | int:
    """float's shortest repr gives back every config-sized decimal."""
    return float(value) if "." in f"{value:f}" else int(value)
