"""The small Varlink client, with a server of another make."""

import json
import os
import socket
import threading
from contextlib import suppress

import pytest

from pyfix.system.call import Caller, CallError


@pytest.fixture
def listener(tmp_path):
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    here = os.open(directory, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        sock.listen(5)
        sock.settimeout(10)
        yield sock, str(directory / "socket")


def answer(listener: socket.socket, *pieces: bytes, number: int = 1):
    """Answers a number of calls with these pieces; the calls that came, and what the first one's descriptors held."""
    calls: list[tuple[dict, bytes]] = []

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            data, fds, _, _ = socket.recv_fds(sock, 65536, 4)
            held = b"".join(os.pread(fd, 100, 0) for fd in fds)
            for fd in fds:
                os.close(fd)
            while data.count(b"\0") < number:
                data += sock.recv(65536)
            calls.extend((json.loads(call), held) for call in data.split(b"\0")[:-1])
            with suppress(BrokenPipeError):  # a caller who has heard enough may go
                for piece in pieces:
                    sock.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread, calls


PLAIN = [
    "",
    "\u00e9\u2028\U0001f4e7",
    "".join(map(chr, range(128))),
    None,
    True,
    False,
    -1,
    [],
    {},
    {"b": {'"': ["c"]}},
]


def call(path: str, *pieces: bytes, listener: socket.socket, fds=()):
    thread, calls = answer(listener, *pieces)
    caller = Caller(path, 1, 10)
    try:
        caller.send("io.pyfix.Test.Do", {"a": PLAIN}, fds)
        caller.wait()
        return calls
    finally:
        caller.close()
        thread.join()


def test_a_call_with_a_descriptor_and_a_reply_in_pieces(listener, tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"held")
    with open(tmp_path / "file", "rb") as file:
        calls = call(listener[1], b'{"parameters":', b'{"x":1}}', b"\0", listener=listener[0], fds=(file.fileno(),))
    assert calls == [({"method": "io.pyfix.Test.Do", "parameters": {"a": PLAIN}}, b"held")]


@pytest.mark.parametrize(
    "reply", [b"{}", b'{"parameters":{"error":"none"}}', b'{ "parameters": { "x": "\\"error\\"" } }']
)
def test_replies_that_are_no_errors(listener, reply: bytes) -> None:
    assert len(call(listener[1], reply + b"\0", listener=listener[0])) == 1


@pytest.mark.parametrize(
    "reply",
    [
        b'{"error":"io.pyfix.Test.No","parameters":{"why":"so"}}',
        b'{ "parameters": { "why": "so" }, "error": "io.pyfix.Test.No" }',
        b'{"parameters":{"why":"so"},"error":"io.pyfix.Test.No"}',
    ],
)
def test_an_error(listener, reply: bytes) -> None:
    with pytest.raises(CallError) as caught:
        call(listener[1], reply + b"\0", listener=listener[0])
    assert (caught.value.name, caught.value.parameters) == ("io.pyfix.Test.No", {"why": "so"})


@pytest.mark.parametrize("first", [b'{"parameters":{}}\0', b'{"error":"io.pyfix.Test.First"}\0'])
def test_all_answers_are_waited_for_up_to_the_first_error(listener, first: bytes) -> None:
    thread, _ = answer(listener[0], first, b'{"error":"io.pyfix.Test.Second"}\0', number=2)
    caller = Caller(listener[1], 1, 10)
    caller.send("io.pyfix.Test.One", {})
    caller.send("io.pyfix.Test.Two", {})
    with pytest.raises(CallError, match="First" if b"First" in first else "Second"):
        caller.wait()
    caller.close()
    thread.join()


@pytest.mark.parametrize("pieces", [(), (b'{"par',), (b"x" * 200_000,)])
def test_no_reply_or_an_endless_one(listener, pieces) -> None:
    with pytest.raises(OSError, match=r"closed|reset"):
        call(listener[1], *pieces, listener=listener[0])


def test_nobody_there(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        Caller(str(tmp_path / "socket"), 1, 1)
