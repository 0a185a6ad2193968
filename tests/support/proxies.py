"""A TCP proxy between client and server that counts round trips and breaks connections."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

_CHUNK = 1 << 20
# How long a client that is still sending is given to go on before its replies are let through.
_GRACE_SECONDS = 0.002


class Requests:
    """Reads what a client sends, as far as needed to know its commands."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._missing = 0
        self._first = True
        self.in_transaction = False

    @property
    def unfinished(self) -> bool:
        """Whether the last command is not complete yet."""
        return bool(self._data)

    def feed(self, data: bytes) -> list[str]:
        """Take in bytes and return the names of the commands that are complete now."""
        self._data += data
        names = []
        while (end := self._command_end()) is not None:
            name, self._data = end
            self.in_transaction = name == "MULTI" or (self.in_transaction and name != "EXEC")
            names.append(name)
        return names

    def _command_end(self) -> tuple[str, bytearray] | None:
        line = self._data.find(b"\r\n")
        if line < 0:
            return None
        at = line + 2
        name = ""
        for index in range(int(self._data[1:line])):
            line = self._data.find(b"\r\n", at)
            if line < 0:
                return None
            length = int(self._data[at + 1 : line])
            at = line + 2 + length + 2
            if at > len(self._data):
                return None
            if index == 0:
                name = self._data[line + 2 : at - 2].decode().upper()
        return name, self._data[at:]


class Proxy:
    """Forwards connections to a port on this machine, and does harm when told to.

    Attributes:
        trips: how many round trips there were: bursts of requests after a reply or at the start.
        commands: how often each command was sent.
        connections: how many connections were accepted.
        most_open: how many of them were open at the same time.
        held: set while something is held back.
        delivered: set when what was held back has been sent on, if that was still possible.
    """

    # What a client says to a server before its first real command.
    GREETINGS = frozenset(("HELLO", "AUTH", "CLIENT", "SELECT", "COMMAND", "CLUSTER", "READONLY"))

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.trips = 0
        self.commands: Counter[str] = Counter()
        self.connections = 0
        self.most_open = 0
        self._sockets: set[socket.socket] = set()
        self._clients: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._swallow = False
        self._refuse = False
        self._closed = False
        self._replies_left: int | None = None
        self._requests_left: int | None = None
        self._slow = (0.0, 1)
        self._hold_request = False
        self._hold_reply_at: int | None = None
        self._act: Callable[[], None] = lambda: None
        self._released = threading.Event()
        self.held = threading.Event()
        self.delivered = threading.Event()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    # Harm -----------------------------------------------------------------------------------

    def lead_to(self, port: int) -> None:
        """Connect to another server from now on; open connections stay where they are.

        As a name does, or a load balancer, that leads to whatever is the primary.
        """
        self._target = port

    def swallow(self, on: bool = True) -> None:
        """Let nothing through in either direction, without closing anything."""
        self._swallow = on
        if not on:
            # What was swallowed is lost, so the connections are of no more use.
            self.drop()

    def refuse(self, on: bool = True) -> None:
        """Close every new connection at once, and those there are."""
        self._refuse = on
        if on:
            self.drop()

    def cut_replies_after(self, count: int) -> None:
        """Close the connection that passes ``count`` further bytes of replies."""
        self._replies_left = count

    def cut_requests_after(self, count: int) -> None:
        """Close the connection that passes ``count`` further bytes of requests."""
        self._requests_left = count

    def hold_request(self) -> None:
        """Keep the next request back, as a network does that has lost a packet of it.

        Other connections, and what is answered on this one, are not touched.
        """
        self._reset_hold()
        self._hold_request = True

    def hold_reply_after(self, count: int) -> None:
        """Keep replies back on the connection that has passed ``count`` further bytes of them."""
        self._reset_hold()
        self._hold_reply_at = count

    def when_held(self, act: Callable[[], None]) -> None:
        """Do something, once, as soon as something is held back."""
        self._act = act

    def slow_down(self, seconds: float, pieces: int = 1) -> None:
        """Pass every reply on in so many pieces, each after so many seconds."""
        self._slow = (seconds, pieces)

    def _pass_reply(self, client: socket.socket, data: bytes) -> None:
        seconds, pieces = self._slow
        size = -(-len(data) // pieces)
        for at in range(0, len(data), size):
            time.sleep(seconds)
            client.sendall(data[at : at + size])

    def _reset_hold(self) -> None:
        self._act = lambda: None
        self._released.clear()
        self.held.clear()
        self.delivered.clear()

    def release(self) -> None:
        """Send on what is held back, and wait until that is done."""
        if self.held.is_set():
            self._released.set()
            assert self.delivered.wait(30)

    def _hold(self, destination: socket.socket, data: bytes) -> None:
        self.held.set()
        self._act()
        self._released.wait()
        try:
            destination.sendall(data)
        finally:
            self.held.clear()
            self.delivered.set()

    def uncut(self) -> None:
        """Take back a cut that did not happen."""
        self._replies_left = self._requests_left = None

    def drop(self) -> None:
        """Close every connection."""
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def drop_clients(self) -> None:
        """Close every connection on the side of the clients only."""
        with self._lock:
            for each in self._clients & self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """Count from zero inside a ``with`` block; yields the commands."""
        self.trips = 0
        self.commands = Counter()
        yield self.commands

    def close(self) -> None:
        """Stop, and close every connection."""
        self._closed = True
        self._released.set()
        # A blocked accept() is woken by a connection, not by closing its socket.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            pass
        self._accepting.join()
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Work -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closed or self._refuse:
                client.close()
                if self._closed:
                    return
                continue
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads = [each for each in self._threads if each.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        with self._lock:
            self.connections += 1
            self._sockets |= {client, server}
            self._clients = {*(self._clients & self._sockets), client}
            self.most_open = max(self.most_open, len(self._sockets) // 2)
        raw = client
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            self._pump(client, server)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._sockets -= {raw, server}
            client.close()
            raw.close()
            server.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        requests = Requests()
        answered = True
        while True:
            if isinstance(client, ssl.SSLSocket) and client.pending():
                ready = [client]
            else:
                ready = select.select([client, server], [], [])[0]
            if server in ready and client not in ready:
                # Replies wait while their client is still sending, or trips would be overcounted.
                patience = 5 if requests.unfinished else _GRACE_SECONDS
                ready += select.select([client], [], [], patience)[0]
            if client in ready:
                data = client.recv(_CHUNK)
                if not data:
                    return
                if self._swallow:
                    continue
                inside = requests.in_transaction
                names = requests.feed(data)
                self.commands.update(names)
                if answered and not inside and set(names) - self.GREETINGS:
                    self.trips += 1
                    answered = False
                if self._requests_left is not None:
                    data, left = data[: self._requests_left], self._requests_left - len(data)
                    self._requests_left = max(left, 0)
                    server.sendall(data)
                    if left <= 0:
                        self._requests_left = None
                        return
                    continue
                if self._hold_request:
                    self._hold_request = False
                    self._hold(server, data)
                else:
                    server.sendall(data)
                continue
            data = server.recv(_CHUNK)
            if not data:
                return
            if self._swallow:
                continue
            answered = True
            if self._replies_left is not None:
                if len(data) >= self._replies_left:
                    client.sendall(data[: self._replies_left])
                    self._replies_left = None
                    return
                self._replies_left -= len(data)
            if self._hold_reply_at is not None:
                self._hold_reply_at -= len(data)
                if self._hold_reply_at <= 0:
                    at, self._hold_reply_at = len(data) + self._hold_reply_at, None
                    client.sendall(data[:at])
                    self._hold(client, data[at:])
                    continue
            self._pass_reply(client, data)
