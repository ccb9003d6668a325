import io
import os
import socket
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from pyfix.commands import postsuper
from pyfix.service.queue import CONTROL
from pyfix.spool.directories import EXPIRED, MESSAGE_QUEUES, Spool
from pyfix.spool.queue_id import with_inode

A, B, C = "4jXZ1m485RzD2qY", "4jXZ1m485RzD2qZ", "0A1B2C3D4E"

# What is in the queues at first, the options, and standard input.
CASES = {
    "delete": ({"deferred": A, "hold": B}, ["-d", A, "-d", B], ""),
    "delete from maildrop": ({"maildrop": A}, ["-d", A], ""),
    "delete short": ({"deferred": C}, ["-d", C], ""),
    "delete with logs": ({"deferred": A, "defer": A, "bounce": A}, ["-d", A], ""),
    "delete in queue": ({"deferred": A, "hold": B}, ["-d", A, "-d", B, "hold"], ""),
    "delete nothing": ({}, ["-d", A], ""),
    "delete all": ({"deferred": A, "hold": B, "maildrop": C}, ["-d", "ALL"], ""),
    "delete all of queue": ({"deferred": A, "hold": B}, ["-d", "ALL", "deferred"], ""),
    "hold": ({"deferred": A, "incoming": B}, ["-h", A, "-h", B], ""),
    "hold not maildrop": ({"maildrop": A}, ["-h", A], ""),
    "hold all": ({"deferred": A, "active": B, "maildrop": C}, ["-h", "ALL"], ""),
    "release": ({"hold": A}, ["-H", A], ""),
    "release all": ({"hold": A, "incoming": B}, ["-H", "ALL"], ""),
    "requeue": ({"deferred": A, "defer": A}, ["-r", A], ""),
    "requeue all": ({"deferred": A, "hold": B, "maildrop": C}, ["-r", "ALL"], ""),
    "standard input": ({"deferred": A, "hold": B}, ["-d", "-"], f"{A}\n\nzz\na/b\n{B}\n"),
    "invalid": ({"deferred": A}, ["-h", "bad/id", "-h", A, "-h", "../x", "-h", "unknown"], ""),
    "several": ({"deferred": A, "hold": B, "incoming": C}, ["-d", A, "-r", A, "-h", C, "-H", B], ""),
    "wrong queue": ({}, ["-d", A, "nosuch"], ""),
    "relative": ({}, ["-c", "etc"], ""),
    "odd bytes": (
        {"deferred": A},
        ["-h", "-", "-d", "\udcffé\x07"],
        f"a\x1b[1mb\n\udcffé\n{A}\r\nA\0B\n{'x' * 150}\n\n",
    ),
    "log queue": ({"deferred": A}, ["-d", A, "bounce"], ""),
    "no queue": ({"deferred": A}, ["-d", A, "corrupt"], ""),
    "repeated": ({"deferred": A, "hold": B, "incoming": C}, ["-d", A, "-r", B, "-d", C, "-d", A], ""),
    "all and one": ({"deferred": A, "hold": B}, ["-h", "ALL", "-h", A, "-d", "ALL"], ""),
    "expire": ({"deferred": A, "hold": B, "maildrop": C}, ["-e", A, "-e", B, "-e", C, "-e", A], ""),
    "expire all": ({"deferred": A, "hold": B, "maildrop": C}, ["-e", "ALL", "-e", A], ""),
    "expire in queue": ({"deferred": A, "hold": B}, ["-e", A, "-e", B, "hold", "maildrop"], ""),
    "expire and release": ({"deferred": A, "hold": B, "incoming": C}, ["-f", A, "-f", B, "-f", C], ""),
    "expire and release all": ({"deferred": A, "hold": B, "incoming": C}, ["-f", "ALL"], ""),
    "expire and release in queue": ({"deferred": A, "hold": B}, ["-f", "ALL", "deferred"], ""),
    "expired and released": ({"hold": A}, ["-e", A, "-f", A], ""),
    "expire by standard input": ({"deferred": A, "hold": B}, ["-f", "-"], f"{A}\n\n../a\n{B}\n"),
    "requeued does not expire": ({"deferred": A}, ["-r", A, "-e", A], ""),
    "in their order": ({"deferred": A, "hold": B, "incoming": C}, ["-H", B, "-h", C, "-f", C, "-e", A, "-d", A], ""),
    "tidy": ({"deferred": A}, [], ""),
}


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    """Runs our postsuper in this process; its exit status and the lines it says and logs."""

    def run(spool_directory, *arguments, data=""):
        (tmp_path / "main.cf").write_text(f"queue_directory = {spool_directory}\nsyslog_name = pyfix\n")
        monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
        monkeypatch.setenv("PYFIX_RUNTIME", str(tmp_path / "run"))
        monkeypatch.setenv("PYFIX_LOG", str(tmp_path / "log"))
        monkeypatch.setattr(sys, "argv", ["postsuper", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(os.fsencode(data))))
        status = 0
        try:
            postsuper.main()
        except SystemExit as end:
            status = end.code
        log = (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""
        return status, capfd.readouterr().err.splitlines(), [line.partition("]: ")[2] for line in log.splitlines()]

    return run


def _fill(root, places):
    spool = Spool(str(root))
    spool.make_directories()
    for queue, queue_id in places.items():
        file = spool.create(queue_id, queue)
        file.write(b"mail")
        file.commit()
    spool.close()


def _places(root):
    """The files, those with "#" that have expired."""
    files = [path for path in Path(root).rglob("*") if path.is_file() and path.parent.name != "pid"]
    return sorted(f"{path.relative_to(root)}{'#' if path.stat().st_mode & EXPIRED else ''}" for path in files)


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix's postsuper is for root only")
@pytest.mark.parametrize("case", CASES)
def test_words_and_effects_are_postfix_own(postfix, spool, run, case):
    places, arguments, data = CASES[case]
    _fill(postfix.spool, places)
    postfix.own()
    _fill(spool.root, places)
    theirs = postfix.attempt("postsuper", *arguments, data=os.fsencode(data))
    status, said, _ = run(spool.root, *arguments, data=data)
    assert said == theirs.stderr.decode().splitlines()
    assert status == theirs.returncode
    assert _places(spool.root) == _places(postfix.spool)


FILES = {
    "deferred/0/0A1B2C3D4E": 0o700,
    "defer/0/0A1B2C3D4E": 0o600,
    "bounce/0A1B2C3D4E": 0o600,
    "hold/0B1B2C3D4E": 0o700,
    "maildrop/0C1B2C3D4E": 0o700,
    "incoming/0D1B2C3D4E": 0o700,
    "active/0E1B2C3D4E": 0o700,
    f"deferred/{A}": 0o700,
    f"deferred/8/4/{B}": 0o700,
    f"defer/8/4/{A}": 0o600,
    "incoming/8/4jXZ1m485RzD2qX": 0o700,
    "hold/x/y/z/4jXZ1m485RzD2qW": 0o700,
    "incoming/old.file": 0o600,
    "hold/odd name": 0o700,
    "deferred/4jXZ1m485RzD2qR#FIX": 0o700,
    "deferred/not one#FIX": 0o700,
    "maildrop/1/4jXZ1m485RzD2qU": 0o700,
}


def _strew(root):
    """A queue in disorder; each file says where it was."""
    _fill(root, {})
    for name, mode in FILES.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(mode)
        os.utime(path, (1000, 1000))
    os.mkfifo(Path(root, "incoming/fifo"))
    Path(root, "deferred/a/b").mkdir(parents=True)
    Path(root, "deferred/alien").mkdir()


def _whereabouts(root):
    """Where each file is now, its inode number left out of its name."""
    found = {}
    for path in (path for path in Path(root).rglob("*") if path.is_file() and path.parent.name != "pid"):
        place, inode = str(path.relative_to(root)), path.stat().st_ino
        for name in (f"{inode:X}", with_inode(A, inode).rpartition("z")[2]):
            place = place.replace(name, "INODE")
        # A log has the name of its message, and an inode of its own.
        found[path.read_text()] = place if place.startswith(MESSAGE_QUEUES) else path.parent.name
    return found


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix's postsuper is for root only")
@pytest.mark.parametrize("arguments", [[], ["-s"], ["-S"], ["-s", "deferred"], ["-s", "-h", B]], ids=" ".join)
def test_order_is_made_as_postfix_makes_it(postfix, spool, run, arguments):
    _strew(postfix.spool)
    postfix.own()
    _strew(spool.root)
    theirs = postfix.attempt("postsuper", *arguments)
    status, said, _ = run(spool.root, *arguments)
    warnings = [line for line in theirs.stderr.decode().splitlines() if "OPERATION INCOMPLETE" not in line]
    assert sorted(said) == sorted(warnings)
    assert status == theirs.returncode
    assert _whereabouts(spool.root) == _whereabouts(postfix.spool)


def test_what_is_said_is_logged(spool, run):
    _fill(spool.root, {"deferred": A})
    status, said, logged = run(spool.root, "-h", A, "-h", "a/b")
    assert status == 0
    assert said == [f"postsuper: {line}" for line in logged]
    assert logged == [f"{A}: placed on hold", "warning: invalid mail queue id: a/b", "Placed on hold: 1 message"]


def test_a_queue_that_is_not_there_is_told(run):
    status, said, _ = run("/nonexistent", "-d", A)
    assert (status, said) == (1, ["postsuper: fatal: chdir /nonexistent: No such file or directory"])


def test_purge_and_structure(spool, run):
    _fill(spool.root, {"incoming": B})
    root = Path(spool.root)
    (root / "deferred" / A).write_bytes(b"mail")
    (root / "deferred" / A).chmod(0o700)
    (root / "incoming" / C).touch(0o600)
    os.utime(root / "incoming" / C, (1000, 1000))
    assert run(spool.root, "-s", "-p")[:2] == (0, [])
    assert _places(root) == [f"deferred/8/{A}", f"incoming/{B}"]


@pytest.fixture
def manager(tmp_path):
    """A queue manager that answers as ``answers`` says and keeps the calls."""
    (tmp_path / "run/control").mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "run/control" / CONTROL.name))
    listener.listen()
    calls, answers = [], []

    def serve():
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # nobody called
        with connection, connection.makefile("rwb") as stream:
            buffer = b""
            while byte := stream.read(1):
                if byte != b"\0":
                    buffer += byte
                    continue
                calls.append(msgspec.json.decode(buffer)["parameters"])
                stream.write(msgspec.json.encode(answers[len(calls) - 1]) + b"\0")
                stream.flush()
                buffer = b""

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield calls, answers
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    listener.close()


def test_the_queue_manager_is_asked_when_it_runs(spool, run, manager):
    """And then no file is touched."""
    calls, answers = manager
    _fill(spool.root, {"deferred": A, "hold": B})
    answers += [{"parameters": {"queue_ids": [A]}}, {"parameters": {"queue_ids": [A, C]}}]
    status, said, _ = run(spool.root, "-d", "ALL", "-h", A, "-h", C, "deferred", "hold")
    assert status == 0
    assert calls == [
        {"action": "delete", "queue_ids": [A, B], "queues": ["deferred", "hold"]},
        {"action": "hold", "queue_ids": [A, C], "queues": ["deferred", "hold"]},
    ]
    assert said == [
        f"postsuper: {A}: placed on hold",
        f"postsuper: {C}: placed on hold",
        "postsuper: Deleted: 1 message",
        "postsuper: Placed on hold: 2 messages",
    ]
    assert _places(spool.root) == [f"deferred/8/{A}", f"hold/{B}"]


def test_a_refusal_is_told(spool, run, manager):
    _, answers = manager
    answers.append({"error": "io.pyfix.Control.Denied", "parameters": {}})
    status, said, _ = run(spool.root, "-d", A)
    assert status == 1
    assert said[0].startswith("postsuper: fatal: io.pyfix.Control.Denied")


def test_many_messages_are_sent_in_bounded_calls(spool, run, manager):
    calls, answers = manager
    ids = [f"0A1B2C3D{number:04X}" for number in range(1100)]
    answers += [{"parameters": {"queue_ids": []}}] * 3
    run(spool.root, "-d", "-", data="\n".join(ids))
    assert [len(call["queue_ids"]) for call in calls] == [500, 500, 100]


def test_strangers_are_sent_away(spool, run, monkeypatch):
    monkeypatch.setattr(postsuper, "may_act_as", lambda _uid: False)
    status, said, _ = run(spool.root, "-d", "ALL")
    assert (status, said) == (1, ["postsuper: fatal: use of this command is reserved for the superuser"])
