"""Bearer tokens: read from a file or the environment, compared in constant time, never logged."""

import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from exporter.core.errors import UserError

MIN_TOKEN_LENGTH = 16  # shorter can be guessed over a network


def read_token(
    name: str, file: Path | None, variable: str | None, environment: Mapping[str, str] = os.environ
) -> str | None:
    """The token named by a config: the file's content, else the environment variable's, else None.

    Raises UserError when a named file cannot be read, or the token is shorter than 16 characters
    or not printable ASCII.
    """
    if file is not None:
        try:
            token = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the {name} token file {file}: {error}") from error
    elif variable is not None and variable in environment:
        token = environment[variable].strip()
    else:
        return None
    if len(token) < MIN_TOKEN_LENGTH or not (token.isascii() and token.isprintable()):
        source = file or f"environment variable {variable}"
        raise UserError(
            f"the {name} token in {source} must be at least {MIN_TOKEN_LENGTH} printable characters"
        )
    return token


def bearer_matches(header: str | None, token: str) -> bool:
    """Whether an Authorization header carries the token, in time that does not depend on it."""
    scheme, _, given = (header or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    return scheme.lower() == "bearer" and same
