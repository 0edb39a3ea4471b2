"""Network links under a test's control: a TCP proxy that passes, refuses or hangs."""

import contextlib
import select
import socket
import threading
from pathlib import Path
from typing import Literal

from command.stack.bundle import Bundle
from common.files import replace_file

Mode = Literal["pass", "refuse", "hang"]
LINKS = (
    "prometheus → exporter",
    "prometheus → alertmanager",
    "alertmanager → receiver",
    "receiver → prometheus",
    "receiver → alertmanager",
    "receiver → exporter",
)


class Link:
    """A loopback port that leads to another one, as long as the test lets it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0  # any that is free, then that one
        self.mode: Mode = "pass"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._listen()

    def set(self, mode: Mode) -> None:
        """refuse: nobody listens, open connections end. hang: accepted, never answered."""
        self.mode = mode
        if mode == "refuse":
            self._unlisten()
        if mode != "hang":  # what hung, or was cut, is not continued
            self._drop()
        if mode != "refuse" and self._listener is None:
            self._listen()

    def close(self) -> None:
        self._unlisten()
        self._drop()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _unlisten(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes accept(); close() alone does not
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            client.close()
            return
        for side in (client, server):  # a wire does not wait for acknowledgements
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open |= {client, server}
        with contextlib.suppress(OSError, ValueError):
            self._pump(client, server)
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        """Both ways, until either side ends; while the link hangs nothing is read."""
        other = {client: server, server: client}
        while True:
            ready, _, _ = select.select([client, server], [], [], 0.1)
            if self.mode == "hang":
                threading.Event().wait(0.05)
                continue
            for side in ready:
                data = side.recv(1 << 16)
                if not data:
                    return
                other[side].sendall(data)

    def _drop(self) -> None:
        with self._lock:
            for side in self._open:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)


class LinkedBundle(Bundle):
    """A bundle whose services reach each other through links."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.links = {name: Link(getattr(self.ports, name.split()[-1])) for name in LINKS}
        for name in LINKS[3:]:
            self.receiver.argv = [self._over(name, text) for text in self.receiver.argv]

    def prepare(self) -> None:
        """The configs, with each address replaced by its link's."""
        super().prepare()
        for name in LINKS[:3]:
            path = Path(self.folder, f"{name.split()[0]}.yml")
            text = path.read_text()
            assert self._over(name, text) != text
            replace_file(path, self._over(name, text).encode())

    def stop(self) -> None:
        super().stop()
        for link in self.links.values():
            link.close()

    def _over(self, name: str, text: str) -> str:
        link = self.links[name]
        return text.replace(f"127.0.0.1:{link.target}", f"127.0.0.1:{link.port}")
