"""A Varlink call at the least cost of start-up, for commands that run once a message.

pyfix.service.client is the full client; it costs a command 80 ms of start-up. Python's own socket and json packages,
with the enum and re that they import, still cost more than the rest of such a command together. So sockets are taken
from where the socket package takes them, and JSON, of which a caller needs little, is written here. It is read by json,
but only where an answer may be an error. os is imported where few callers come.
"""

import sys
import time
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, socket

TYPE_CHECKING = False  # typing is not imported: it costs a command a tenth of its start
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_REPLY_LIMIT = 65536
_PATH_LIMIT = 107
_ESCAPES = {code: f"\\u{code:04x}" for code in range(32)} | {ord('"'): '\\"', ord("\\"): "\\\\"}


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
            self._socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
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
        self._unanswered = 0

    def send(self, method: str, parameters: "Mapping[str, object]", fds: "Sequence[int]" = ()) -> None:
        """Sends a call, of strings, numbers, booleans, None, lists and dictionaries; wait() reads its answer."""
        message = _json({"method": method, "parameters": parameters}).encode() + b"\0"
        sent = 0
        if fds:
            passed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
            sent = self._socket.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, passed)])
        if sent < len(message):  # even sendall(b"") fails where the peer has answered and gone
            self._socket.sendall(message[sent:])
        self._unanswered += 1

    def wait(self) -> None:
        """Waits for the answers to all calls. Raises CallError where one is an error."""
        while self._unanswered:
            self._receive()
            self._unanswered -= 1

    def _receive(self) -> None:
        while b"\0" not in self._received:
            data = self._socket.recv(_REPLY_LIMIT)
            if not data or len(self._received) > _REPLY_LIMIT:
                raise ConnectionResetError("the service has closed the connection")
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        if b'"error"' not in message and message.startswith(b'{"parameters":{'):
            return
        import json  # noqa: PLC0415 -- only what may be an error pays for it

        reply = json.loads(message)
        if "error" in reply:
            raise CallError(reply["error"], reply.get("parameters", {}))

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()


def _connect(sock: socket, path: str) -> None:
    if len(path.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())) <= _PATH_LIMIT:
        sock.connect(path)
        return
    import os  # noqa: PLC0415 -- as above

    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


def _json(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return f'"{value.translate(_ESCAPES)}"'
        case list():
            return f"[{','.join(map(_json, value))}]"
        case dict():
            return f"{{{','.join(f'{_json(name)}:{_json(member)}' for name, member in value.items())}}}"
    raise TypeError(type(value))
