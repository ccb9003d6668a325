"""Roles as processes of their own, with their Unix sockets, as systemd starts them."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_LAUNCHER = """
import os, runpy, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


@contextlib.contextmanager
def agent(directory, role, interface, *arguments):
    """Runs a role; ``directory`` is the runtime directory, where main.cf and log stand too."""
    (directory / role).mkdir()
    path = directory / role / interface
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(100)
    environment = os.environ | {
        "MAIL_CONFIG": str(directory),
        "PYFIX_RUNTIME": str(directory),
        "PYFIX_LOG": str(directory / "log"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", _LAUNCHER, str(listener.fileno()), f"pyfix.roles.{role}", *arguments]
    process = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(15)
        listener.close()
