"""Bounds on all request bodies together: one client must not use the others' memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from common.http import HttpError, read_body


class BodyBounds:
    """How many requests are at work, and how many bytes of bodies are held, at once."""

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._requests = 0
        self._bytes = 0

    @asynccontextmanager
    async def read(self, request: Request, max_bytes: int) -> AsyncIterator[bytes]:
        """A request's body of at most max_bytes, held until the end of the block.

        Raises HttpError 503 when there is no room now, else as read_body.
        """
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            # One body alone always fits.
            if self._bytes + count > self._max_bytes and self._bytes > held:
                raise HttpError(503, "too many bytes on their way at once; try again")
            held += count
            self._bytes += count

        try:
            body = await read_body(request, max_bytes, hold)
            # A body on its way does not count: the server drops the slowest connection.
            if self._requests >= self._max_requests:
                raise HttpError(503, "too many requests at once; try again")
            self._requests += 1
            try:
                yield body
            finally:
                self._requests -= 1
        finally:
            self._bytes -= held
