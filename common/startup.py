"""What a process inherits from its shell and must not depend on."""

import io
import os
import sys
from typing import TextIO


def settle() -> None:
    """Outputs that can be written to, and files that strangers cannot write; call it first.

    A closed output goes nowhere, and its descriptor is not given to a file or a socket. A
    character that the locale lacks is shown as "?". The group's rights stay the umask's.
    """
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(spare, True)  # as every input and output is
    os.close(spare)
    sys.stdout = _usable(sys.stdout)
    sys.stderr = _usable(sys.stderr)
    os.umask(os.umask(0o077) | 0o002)


def _usable(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="replace")
    return stream
