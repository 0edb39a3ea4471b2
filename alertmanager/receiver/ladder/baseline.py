"""The scraper's own config: read, and refused when it carries a secret."""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from alertmanager.receiver.ladder.ladder import MAX_NODES, Document
from common.errors import UserError
from common.yamlfile import parse_document

_SECRET_KEY = re.compile(r"(apikey|secret|password|passwd|token|connectionstring)$")
_URL_WITH_USER = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@]+@", re.IGNORECASE)


def parse_baseline(raw: bytes, path: Path) -> Document:
    """The baseline from its bytes. Raises UserError when it is not a mapping, or has a secret.

    That is named by its path, never by its value: the effective config is served and logged.
    """
    document = parse_document(raw, path, MAX_NODES)
    if not isinstance(document, dict) or not document:
        raise UserError(f"{path} is not a config: a mapping of keys to values is needed")
    for where, key, value in _values(document):
        # A float is JSON's NaN or Infinity: real numbers are read as decimals.
        if isinstance(value, float) or (isinstance(value, Decimal) and not value.is_finite()):
            raise UserError(f"{path}: {where} is not a finite number; give it a value")
        if _is_secret(key, value):
            raise UserError(
                f"{path}: {where} holds a secret; leave it empty, because this config is served "
                "and logged, and give the scraper the name of an environment variable instead"
            )
    return document


def _values(value: Any, key: str = "", path: str = "") -> Iterator[tuple[str, str, Any]]:
    """The key path, the key and the value of all that is no mapping or list, at any depth."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _values(item, str(name), f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _values(item, key, f"{path}[{index}]")
    else:
        yield path, key, value


def _is_secret(key: str, value: Any) -> bool:
    """By the key's name, or a URL with a user; decimals are prices per token, booleans switches."""
    if isinstance(value, str) and _URL_WITH_USER.search(value):
        return True
    named = _SECRET_KEY.search(re.sub(r"[^a-z0-9]", "", key.lower()))
    plain = isinstance(value, str | int) and not isinstance(value, bool)
    return bool(named) and plain and value not in ("", 0)
