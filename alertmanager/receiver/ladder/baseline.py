"""The scraper's own config: read, and refused when it carries a secret."""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from alertmanager.receiver.ladder.operations import Document
from common.errors import UserError
from common.yamlfile import parse_document

MAX_NODES = 20_000  # keys and values
_SECRET_KEY = re.compile(r"(apikey|secret|password|passwd|token|connectionstring)$")
_URL_WITH_USER = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@]+@", re.IGNORECASE)


def parse_baseline(raw: bytes, path: Path) -> Document:
    """The baseline from its bytes.

    Raises UserError when it is not a mapping, or at any depth carries a secret (named by its path,
    never by its value): the effective config is served and logged.
    """
    document = parse_document(raw, path, MAX_NODES)
    if not isinstance(document, dict) or not document:
        raise UserError(f"{path} is not a config: a mapping of keys to values is needed")
    for where in inexact_in(document):
        raise UserError(f"{path}: {where} is not a finite number; give it a value")
    for where in secrets_in(document):
        raise UserError(
            f"{path}: {where} holds a secret; leave it empty, because this config is served and "
            "logged, and give the scraper the name of an environment variable instead"
        )
    return document


def secrets_in(value: Any, path: str = "") -> Iterator[str]:
    """Key paths of non-empty secrets: by the key's name, or a URL with user info."""
    if isinstance(value, dict):
        for key, item in value.items():
            name = f"{path}.{key}" if path else str(key)
            if _is_secret_key(str(key)) and _is_secret_value(item):
                yield name
            else:
                yield from secrets_in(item, name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from secrets_in(item, f"{path}[{index}]")
    elif isinstance(value, str) and _URL_WITH_USER.search(value):
        yield path


def inexact_in(value: Any, path: str = "") -> Iterator[str]:
    """Key paths of numbers that nothing can be computed with: infinite, or none at all."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from inexact_in(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from inexact_in(item, f"{path}[{index}]")
    elif isinstance(value, float) or (isinstance(value, Decimal) and not value.is_finite()):
        yield path  # a float is JSON's NaN or Infinity: real numbers are read as decimals


def _is_secret_key(key: str) -> bool:
    return bool(_SECRET_KEY.search(re.sub(r"[^a-z0-9]", "", key.lower())))


def _is_secret_value(value: Any) -> bool:
    """Text or a whole number; a decimal is a price per token, true and false are switches."""
    if isinstance(value, list):
        return any(_is_secret_value(item) for item in value)
    return isinstance(value, str | int) and not isinstance(value, bool) and value not in ("", 0)
