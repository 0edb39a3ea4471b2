"""Bearer tokens: read from a file or the environment, compared in constant time, never logged."""

import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from common.errors import UserError, words
from common.files import read_file

MIN_TOKEN_LENGTH = 16  # shorter can be guessed over a network
MAX_SECRET_BYTES = 16 << 10  # more than a server takes as a header


def read_token(
    name: str, file: Path | str | None = None, environment: Mapping[str, str] = os.environ
) -> str | None:
    """The token called name (ingest, admin, metrics, webhook), or None when none is set.

    From the file that a config names, else the file in LLM_BUDGET_<NAME>_TOKEN_FILE, else the text
    in LLM_BUDGET_<NAME>_TOKEN. Raises UserError when a named file cannot be read, or the token is
    shorter than 16 characters or not printable ASCII.
    """
    variable = f"LLM_BUDGET_{name.upper()}_TOKEN"
    if source := file or environment.get(f"{variable}_FILE"):
        try:
            token = read_file(Path(source), MAX_SECRET_BYTES).decode("ascii").strip()
        except (OSError, ValueError) as error:  # ValueError: not ASCII, or an impossible path
            said = f"cannot read the {name} token file {source}: {words(error)}"
            raise UserError(said) from error
    elif environment.get(variable):
        token, source = environment[variable].strip(), f"environment variable {variable}"
    else:
        return None
    if len(token) < MIN_TOKEN_LENGTH or not (token.isascii() and token.isprintable()):
        raise UserError(
            f"the {name} token in {source} must be at least {MIN_TOKEN_LENGTH} printable characters"
        )
    return token


def bearer_matches(header: str | None, token: str) -> bool:
    """Whether an Authorization header carries the token, in time that does not depend on it."""
    scheme, _, given = (header or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    return scheme.lower() == "bearer" and same
