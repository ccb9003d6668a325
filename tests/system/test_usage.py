import os
import socket
import subprocess
import sys

import pytest

from pyfix.system.usage import is_running, usage

pytestmark = pytest.mark.system

CHILD = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen()
tcp = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
client = socket.socket(socket.AF_UNIX); client.connect(sys.argv[1])
accepted, _ = listener.accept()
if os.fork() == 0:
    print("ready", flush=True)
sys.stdin.read()
"""


def test_a_process_and_its_children_are_counted(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = subprocess.Popen(
            [sys.executable, "-IS", "-c", CHILD, tmp_path / "s", str(server.getsockname()[1])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout.readline() == b"ready\n"
        used = usage(process.pid, 1)
        # In each: TCP, and both ends of the Unix connection; the listener is none.
        assert (used.processes, used.connections) == (2, 6)
        assert used.memory > 2 << 20
        process.communicate()
    assert not is_running(process.pid)
    assert usage(process.pid, 1) == (0, 0, 0)


def test_this_process_runs():
    assert is_running(os.getpid())
