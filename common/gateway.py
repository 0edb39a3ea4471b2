"""What every question to a source carries on its way: headers out of files, the CA to trust."""

import argparse
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.auth import MAX_SECRET_BYTES
from common.errors import UserError
from common.files import read_file

MAX_CA_BYTES = 1 << 20  # a system's whole bundle is a quarter of it
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110: a token


def add_flags(command: argparse.ArgumentParser) -> None:
    """--header and --ca-file."""
    header = "a header for every source, its value in a file; repeat for several"
    several: dict[str, Any] = {"action": "append", "default": []}
    command.add_argument("--header", metavar="NAME=FILE", help=header, **several)
    trusted = "trust these CAs (PEM) instead of the usual"
    command.add_argument("--ca-file", type=Path, metavar="FILE", help=trusted)


@dataclass(frozen=True)
class Gateway:
    """The files are read for each question, so that a changed one counts at once."""

    headers: Mapping[str, Path] = field(default_factory=dict)
    ca_file: Path | None = None

    @classmethod
    def from_flags(cls, arguments: argparse.Namespace) -> "Gateway":
        """As the flags say. Raises UserError for what could not be sent or trusted."""
        headers: dict[str, Path] = {}
        for text in arguments.header:
            name, separator, file = text.partition("=")
            if not (separator and file and _NAME.fullmatch(name)):
                raise UserError(f"--header {name!r} is not NAME=FILE, with a header's name")
            headers[name] = Path(file)
        gateway = cls(headers, arguments.ca_file)
        gateway.options()
        return gateway

    def options(self) -> dict[str, Any]:
        """Keywords for fetch. Raises UserError that names the file, never what it holds."""
        if self.ca_file is not None:
            _need_ca(self.ca_file)
        headers = {name: _value(name, file) for name, file in self.headers.items()}
        return {"headers": headers, "ca_file": self.ca_file}


def _value(name: str, file: Path) -> str:
    try:
        value = read_file(file, MAX_SECRET_BYTES).decode("ascii").strip()
    except OSError as error:
        raise UserError(f"cannot read {file} of --header {name}: {error.strerror}") from error
    except ValueError:
        value = ""
    if not value or not value.isprintable():
        raise UserError(f"{file} of --header {name} must hold one line of printable ASCII")
    return value


def _need_ca(file: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=read_file(file, MAX_CA_BYTES).decode("ascii"))
    except (ssl.SSLError, ValueError):  # an SSLError is an OSError, too
        pass
    except OSError as error:
        raise UserError(f"cannot read the CA file {file}: {error.strerror}") from error
    if not context.get_ca_certs():
        raise UserError(f"the CA file {file} holds no certificate of a CA in PEM format")
