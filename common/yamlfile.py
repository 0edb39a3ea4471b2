"""YAML and JSON documents with exact decimals; schemas by msgspec, errors with the key path."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from common.errors import UserError

T = TypeVar("T")
MAX_DOCUMENT_BYTES = 1 << 20  # a config beyond 1 MiB is a mistake


class _Loader(yaml.SafeLoader):
    """SafeLoader that keeps decimals exact and refuses a key written twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if isinstance(key, str) and keys.count(key) > 1:
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
    return Decimal(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


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


def read_document(path: Path) -> Any:
    """The plain content of a YAML file (JSON by the extension .json), decimals as Decimal.

    Raises UserError naming the file when it is missing, unreadable, too large or malformed.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise UserError(f"{path} is larger than 1 MiB, which no config is")
    return parse_document(raw, path)


def parse_document(raw: bytes, path: Path) -> Any:
    """Parse a document read from path (used for its extension and in errors). Raises UserError."""
    try:
        if path.suffix == ".json":
            return json.loads(raw, parse_float=Decimal)
        return yaml.load(raw, _Loader)  # noqa: S506  _Loader is a SafeLoader
    except (ValueError, yaml.YAMLError, RecursionError, LookupError, AttributeError) as error:
        # The last two: what PyYAML makes of "!!bool no?" and "!!timestamp then".
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
