"""A Varlink call at the least cost of start-up, for commands that run once a message: sockets and JSON, nothing else.

pyfix.service.client is the full client. It costs a command 80 ms of start-up, most of it for types; this one 12 ms.
"""

import json
import os
import socket
import time

TYPE_CHECKING = False  # typing is not imported: it costs a command a tenth of its start
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_REPLY_LIMIT = 65536
_PATH_LIMIT = 107


class CallError(Exception):
    """The service answered with an error. ``name`` is its full Varlink name."""

    def __init__(self, name: str, parameters: "Mapping[str, object]") -> None:
        self.name = name
        self.parameters = parameters
        super().__init__(name)


class Caller:
    """A connection to a service. All methods raise OSError; a connection that ends is a ConnectionError."""

    def __init__(self, path: str, patience: float, timeout: float) -> None:
        """Connects; a service whose queue is full is tried again for ``patience`` seconds.

        No answer within ``timeout`` seconds is a TimeoutError.
        """
        deadline = time.monotonic() + patience
        while True:
            self._socket = socket.socket(
                socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            )
            try:
                _connect(self._socket, path)
                break
            except OSError as error:
                self._socket.close()
                if not isinstance(error, BlockingIOError) or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)
        self._socket.settimeout(timeout)
        self._received = b""

    def send(self, method: str, parameters: "Mapping[str, object]", fds: "Sequence[int]" = ()) -> None:
        """Sends a call; its answer is read with receive()."""
        message = json.dumps({"method": method, "parameters": parameters}).encode() + b"\0"
        sent = socket.send_fds(self._socket, [message], list(fds)) if fds else 0
        if sent < len(message):  # even sendall(b"") fails where the peer has answered and gone
            self._socket.sendall(message[sent:])

    def receive(self) -> "Mapping[str, object]":
        """The parameters of the answer to the oldest call that was not answered yet. Raises CallError."""
        while b"\0" not in self._received:
            data = self._socket.recv(_REPLY_LIMIT)
            if not data or len(self._received) > _REPLY_LIMIT:
                raise ConnectionResetError("the service has closed the connection")
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        reply = json.loads(message)
        if "error" in reply:
            raise CallError(reply["error"], reply.get("parameters", {}))
        parameters: Mapping[str, object] = reply.get("parameters", {})
        return parameters

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


def _connect(sock: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= _PATH_LIMIT:
        sock.connect(path)
        return
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
