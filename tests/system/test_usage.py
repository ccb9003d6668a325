import os
import socket
import subprocess
import sys

import pytest

from pyfix.system.usage import is_running, load, usage, with_children

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


def test_what_a_tree_of_processes_has_taken():
    script = (
        "import os, sys; child = os.fork(); sum(range(3_000_000)); print(flush=True); sys.stdin.read(); "
        "child and os.wait()"
    )
    command = [sys.executable, "-IS", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert [process.stdout.readline() for _ in range(2)] == [b"\n"] * 2
        tree = with_children([process.pid])[process.pid]
        used = load(tree)
        assert (len(tree), tree[0], used.processes) == (2, process.pid, 2)
        assert used.memory > 2 << 20
        assert 0.01 < used.cpu_seconds < 10
        process.communicate()
    assert load(tree) == (0, 0, 0.0)
    assert with_children([process.pid]) == {process.pid: [process.pid]}
