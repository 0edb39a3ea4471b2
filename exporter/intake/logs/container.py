"""Lines as a container's runtime wraps them: Docker's json-file driver, and CRI's log format.

Both cut long lines into pieces of 16 KB, and the pieces of stdout and stderr may alternate. What is
joined here is consumed together: a position never lies between the pieces of a line, so that after
a kill they are found again.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal

from exporter.intake.logs.file import MAX_LINE_BYTES, WholeLines
from exporter.intake.logs.lenient import decode

# time, stream, tags (the first one: P, a piece, or F, the full line or its last piece), text
_CRI = re.compile(rb"\S+ (stdout|stderr) ([PF])(?::\S*)? ?(.*)", re.DOTALL)


_Piece = tuple[object, bytes, bool]  # stream, text, whether the line ends with it


def _docker(line: bytes) -> _Piece:
    try:
        entry = decode(line)
    except ValueError:
        entry = None
    text = entry.get("log") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        return line, line, True  # not Docker's: refused, or read as it is
    stream = str(entry.get("stream"))
    return stream, text.encode("utf-8", "surrogatepass"), text.endswith("\n")


def _cri(line: bytes) -> _Piece:
    found = _CRI.fullmatch(line)
    return (found[1], found[3], found[2] == b"F") if found else (line, line, True)


_UNWRAP: dict[str, Callable[[bytes], _Piece]] = {"docker": _docker, "cri": _cri}


def join(
    found: WholeLines, kind: Literal["docker", "cri"], before: Sequence[bytes], last: bool
) -> WholeLines:
    """The program's lines in those of the runtime; of these, the unfinished are not consumed.

    before: what was not consumed at the end of the files before this one: nothing of this file is
    consumed until that is finished. last: there is no more to wait for, or no room for more.
    """
    wrapped = [*before, *found.lines]
    whole, begun = _lines(wrapped, _UNWRAP[kind])
    if last:
        whole += [(first, len(wrapped) - 1, text) for first, text in begun]
        begun = []
    stop = min((first for first, _ in begun), default=len(wrapped))
    for first, end, _ in reversed(whole):
        stop = min(stop, first) if end >= stop else stop
    if stop < len(before) or not found.lines:
        return found._replace(lines=[], consumed=0) if before or found.lines else found
    texts = [text for _, end, text in whole if end < stop]
    fitting = [text for text in texts if len(text) <= MAX_LINE_BYTES]
    return found._replace(
        lines=fitting,
        consumed=found.consumed - sum(len(line) + 1 for line in wrapped[stop:]),
        too_long=found.too_long + len(texts) - len(fitting),
    )


def _lines(
    wrapped: Sequence[bytes], unwrap: Callable[[bytes], _Piece]
) -> tuple[list[tuple[int, int, bytes]], list[tuple[int, bytes]]]:
    """First and last index and text of each line, and first index and text of the unfinished."""
    whole: list[tuple[int, int, bytes]] = []
    begun: dict[object, tuple[int, list[bytes]]] = {}
    for index, line in enumerate(wrapped):
        stream, text, ends = unwrap(line)
        first, texts = begun.pop(stream, (index, []))
        texts.append(text)
        if ends:
            whole.append((first, index, b"".join(texts)))
        else:
            begun[stream] = first, texts
    return whole, [(first, b"".join(texts)) for first, texts in begun.values()]
