"""The small Varlink client, with a server of another make."""

import json
import os
import socket
import threading

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


def answer(listener: socket.socket, *pieces: bytes):
    """Answers one connection with these pieces; the calls that came, with what their descriptors held."""
    calls: list[tuple[dict, bytes]] = []

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            data, fds, _, _ = socket.recv_fds(sock, 65536, 4)
            held = b"".join(os.pread(fd, 100, 0) for fd in fds)
            for fd in fds:
                os.close(fd)
            calls.append((json.loads(data.removesuffix(b"\0")), held))
            for piece in pieces:
                sock.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread, calls


def call(path: str, *pieces: bytes, listener: socket.socket, fds=()):
    thread, calls = answer(listener, *pieces)
    caller = Caller(path, 1, 10)
    try:
        caller.send("io.pyfix.Test.Do", {"a": "\u00e9\n"}, fds)
        return caller.receive(), calls
    finally:
        caller.close()
        thread.join()


def test_a_call_with_a_descriptor_and_a_reply_in_pieces(listener, tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"held")
    with open(tmp_path / "file", "rb") as file:
        reply, calls = call(
            listener[1], b'{"parameters":', b'{"x":1}}', b"\0", listener=listener[0], fds=(file.fileno(),)
        )
    assert reply == {"x": 1}
    assert calls == [({"method": "io.pyfix.Test.Do", "parameters": {"a": "\u00e9\n"}}, b"held")]


def test_an_error(listener) -> None:
    with pytest.raises(CallError) as caught:
        call(listener[1], b'{"error":"io.pyfix.Test.No","parameters":{"why":"so"}}\0', listener=listener[0])
    assert (caught.value.name, caught.value.parameters) == ("io.pyfix.Test.No", {"why": "so"})


@pytest.mark.parametrize("pieces", [(), (b'{"par',), (b"x" * 200_000,)])
def test_no_reply_or_an_endless_one(listener, pieces) -> None:
    with pytest.raises(OSError, match=r"closed|reset"):
        call(listener[1], *pieces, listener=listener[0])


def test_nobody_there(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        Caller(str(tmp_path / "socket"), 1, 1)
