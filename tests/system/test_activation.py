"""Sockets from systemd: taken by the process they are meant for, once."""

import os
import socket
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
if sys.argv[1]: os.environ["LISTEN_PID"] = sys.argv[1].replace("me", str(os.getpid()))
from pyfix.system.activation import take_listeners
for l in take_listeners():
    print(l.name, os.path.basename(l.path), l.socket.getblocking(), os.get_inheritable(l.socket.fileno()))
print(len(take_listeners()), [k for k in os.environ if k.startswith("LISTEN")])
"""


@pytest.mark.parametrize(
    ("pid", "count", "names", "expected"),
    [
        ("me", "1", "one", "one io.pyfix.Test False False\n0 []\n"),
        ("me", "1", "", " io.pyfix.Test False False\n0 []\n"),
        ("1", "1", "one", "0 []\n"),
        ("", "1", "one", "0 []\n"),
        ("me", "x", "one", "0 []\n"),
    ],
    ids=["ours", "without a name", "another's", "nobody's", "no number"],
)
def test_listeners(tmp_path, pid, count, names, expected):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "io.pyfix.Test"))
    listener.listen()
    env = os.environ | {"LISTEN_FDS": count, "LISTEN_FDNAMES": names, "PYTHONPATH": os.getcwd()}
    fd = listener.fileno()
    command = f"import os,sys\nos.dup2({fd}, 3)\nos.execv(sys.executable, [sys.executable, '-c', {SCRIPT!r}, {pid!r}])"
    done = subprocess.run([sys.executable, "-c", command], env=env, pass_fds=[fd], capture_output=True, text=True)
    listener.close()
    assert done.stdout == expected
