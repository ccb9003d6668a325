import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import oracle
import pytest

from pyfix.commands import postcat
from pyfix.spool.directories import Spool
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.maildrop import MaildropWriter, NewSubmission
from pyfix.spool.queue_file import QueueFileWriter, mark_done, read_envelope
from pyfix.spool.record import encode

pytestmark = pytest.mark.system

FIXTURES = Path(__file__).parent.parent / "spool/fixtures"
QUEUE_ID = "4jXZ1m485RzD2qY"
QUEUE_FILES = ("deferred", "maildrop", "null_sender", "own_message", "own_submission")

_HEAD = encode(b"T", b"1795364156 1") + encode(b"S", b"s@x.org")
FILES = {
    "no queue file": b"xSubject: x\n\nbody\n",
    "other first type": encode(b"X", b""),
    "odd records": encode(b"Z", b"a") + _HEAD,
    "odd records inside": _HEAD
    + b"".join(encode(bytes([byte]), b"v\0w") for byte in b"FILDRO/WVA>KBZe~cqr")
    + encode(b"E", b""),
    "attributes": encode(b"A", b"abc")
    + encode(b"A", b"=bc")
    + encode(b"A", b" a = b c ")
    + encode(b"A", b"create_time=12")
    + encode(b"A", b"create_time=x")
    + encode(b"E", b""),
    "times": b"".join(encode(b"T", data) for data in (b"abc", b"12 5", b"+7", b"- 7"))
    + b"".join(encode(b"W", data) for data in (b"             13", b"             -1"))
    + encode(b"E", b""),
    "body first": encode(b"M", b"")
    + encode(b"N", b"body")
    + encode(b"N", b"A: b")
    + encode(b"X", b"")
    + encode(b"E", b""),
    "headers": encode(b"M", b"")
    + b"".join(encode(b"N", line) for line in (b"A: b", b"\tc", b" d", b"E : f", b"g", b"H: i"))
    + encode(b"X", b"")
    + encode(b"E", b""),
    "continued": encode(b"M", b"")
    + encode(b"N", b"A: b")
    + encode(b"L", b"c")
    + encode(b"N", b"d:e")
    + encode(b"L", b"f")
    + encode(b"L", b"g")
    + encode(b"X", b"")
    + encode(b"A", b"a=b")
    + encode(b"E", b""),
    "pointers": encode(b"T", b"1")
    + encode(b"p", b"10")
    + b"zzz"
    + encode(b"M", b"")
    + encode(b"w", b"000")
    + encode(b"N", b"A: b")
    + encode(b"p", b"30")
    + encode(b"N", b"a")
    + encode(b"p", b"0")
    + encode(b"L", b"c")
    + encode(b"X", b"")
    + encode(b"E", b"")
    + encode(b"N", b"behind"),
    "no order": encode(b"M", b"") + encode(b"M", b"") + encode(b"E", b""),
    "no order behind": encode(b"M", b"") + encode(b"X", b"") + encode(b"X", b"") + encode(b"E", b""),
}  # fmt: skip
# With these Postfix gives up, for which it takes a second each time, and forgets what it has not written out yet.
FATAL_FILES = {
    "two sizes": encode(b"C", b"5 7") * 2 + encode(b"E", b""),
    "empty": b"",
    "not a size": encode(b"C", b"x") + _HEAD + encode(b"E", b""),
    "cut in data": b"C\x0aabc",
    "cut in length": _HEAD + b"R\x80",
    "long length": _HEAD + b"R\xff\xff\xff\xff\xff\x01",
    "bad pointer": _HEAD + encode(b"p", b"x"),
}
OPTIONS = [
    (),
    *((option,) for option in ["-v", "-o", "-d", "-b", "-h", "-e", "-eh", "-eb", "-bh", "-vod", "-rv", "-r"]),
]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    directory = tmp_path_factory.mktemp("samples")
    for name, data in (FILES | FATAL_FILES).items():
        (directory / name.replace(" ", "_")).write_bytes(data)
    for path in FIXTURES.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    _write_own(directory)
    return directory


def _write_own(directory):
    """Files of our own making: a message with all that an envelope can hold, one recipient done, and a submission."""
    root = directory / "spool"
    root.mkdir()
    spool = Spool(str(root))
    spool.make_directories(("incoming", "maildrop"))
    writer = QueueFileWriter(spool.create(QUEUE_ID))
    recipients = tuple(NewRecipient(f"r{n}@x.org", f"o{n}@x.org", "rfc822;o@x.org", n) for n in range(3))
    message = NewMessage("s@x.org", 10**15, 10**9, recipients, "F N", "8bit", 3, "a b", "HDRS", {"a": "b"}, 10**9)
    writer.begin(message)
    writer.write_content(b"Subject: x\n\xe9\n\n" + b"y" * 5000 + b"\n\0\nend")
    writer.finish([NewRecipient("t@x.org")], {"late": "yes"})
    writer.commit()
    descriptor = spool.open("incoming", QUEUE_ID, write=True)
    mark_done(descriptor, read_envelope(descriptor).recipients[1].offset)
    os.close(descriptor)
    submission = MaildropWriter(spool.create(QUEUE_ID, "maildrop"))
    envelope = NewSubmission("a@x.org", ("b@x.org",), 10**15, 1000, full_name="F N", envid="e", ret="FULL", notify=2)
    submission.begin(envelope)
    submission.write_content(b"A: b\n\nx")
    submission.finish(["c@x.org"])
    submission.commit()
    spool.close()
    (root / "incoming" / QUEUE_ID).rename(directory / "own_message")
    (root / "maildrop" / QUEUE_ID).rename(directory / "own_submission")


class _Result(NamedTuple):
    stdout: bytes
    stderr: bytes
    returncode: int


@pytest.fixture
def run(monkeypatch, capfdbinary):
    """Runs our postcat in this process."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    def run(*arguments, cwd, data=None, conf="/nonexistent"):
        monkeypatch.setattr(sys, "argv", ["postcat", *arguments])
        monkeypatch.setenv("MAIL_CONFIG", str(conf))
        monkeypatch.chdir(cwd)
        if data is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        status = 0
        try:
            postcat.main()
        except SystemExit as end:
            status = end.code
        sys.stdout.flush()
        return _Result(*capfdbinary.readouterr(), status)

    return run


def _own_words(stderr):
    """Without what Postfix's -v tells of itself."""
    return [line for line in stderr.splitlines() if b": warning: " in line or b": fatal: " in line]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_output_is_postfix_own(postfix, samples, run, options):
    """Byte for byte on standard output, and in the words of every warning and error, one file after the other."""
    for name in (*FILES, *QUEUE_FILES):
        _compare(postfix, samples, run, options, name.replace(" ", "_"))


@pytest.mark.parametrize("options", [("-s", "97"), ("-ves", "173"), ("-bs", "318")], ids=" ".join)
def test_output_from_an_offset_is_postfix_own(postfix, samples, run, options):
    _compare(postfix, samples, run, options, "deferred")


def _compare(postfix, samples, run, options, name):
    theirs = postfix.attempt("postcat", *options, name, cwd=samples)
    ours = run(*options, name, cwd=samples)
    if name.replace("_", " ") in FATAL_FILES:
        assert ours.stdout.startswith(theirs.stdout), name
    else:
        assert ours.stdout == theirs.stdout, name
    assert ours.returncode == theirs.returncode, name
    assert ours.stderr.splitlines() == _own_words(theirs.stderr), name


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, ()) for name in FATAL_FILES), ("bad pointer", ("-v",)), ("not a size", ("-b",)), ("two sizes", ("-h",))],
)
def test_broken_files_are_told_as_postfix_does(postfix, samples, run, options, name):
    _compare(postfix, samples, run, options, name.replace(" ", "_"))


@pytest.mark.parametrize("options", [(), ("-e",), ("-bh",), ("-s", "97"), ("-s", "100000")], ids=" ".join)
def test_standard_input_is_shown(postfix, samples, run, options):
    data = (samples / "deferred").read_bytes()
    theirs = postfix.attempt("postcat", *options, cwd=samples, data=data)
    ours = run(*options, cwd=samples, data=data)
    assert (ours.stdout, ours.stderr, ours.returncode) == (theirs.stdout, theirs.stderr, theirs.returncode)


@pytest.mark.parametrize("arguments", [("nonexistent",), ("-s", "x", "f"), ("-q", "a/b"), ("-q", "0A1B2C3D4E")])
def test_wrong_use_is_told_as_postfix_does(postfix, samples, run, arguments):
    theirs = postfix.attempt("postcat", *arguments, cwd=samples)
    ours = run(*arguments, cwd=samples, conf=postfix.conf)
    assert (ours.stdout, ours.stderr, ours.returncode) == (theirs.stdout, theirs.stderr, theirs.returncode)


@pytest.mark.parametrize("queue", ["maildrop", "incoming", "active", "deferred", "hold"])
def test_queue_files_are_found_by_id(spool, tmp_path, run, queue):
    writer = QueueFileWriter(spool.create(QUEUE_ID, queue))
    writer.begin(NewMessage("a@x.org", 1, 1, (NewRecipient("b@x.org"),)))
    writer.write_content(b"A: b\n\nbody\n")
    writer.finish()
    writer.commit()
    (tmp_path / "main.cf").write_text(f"queue_directory = {spool.root}\n")
    result = run("-q", QUEUE_ID, cwd=tmp_path, conf=tmp_path)
    path = spool.find(queue, QUEUE_ID)
    assert result.stderr == b""
    assert result.stdout.startswith(f"*** ENVELOPE RECORDS {path} ***\n".encode())
    assert b"\nA: b\n\nbody\n*** HEADER" in result.stdout


def test_file_names_are_put_first_on_demand(samples, run):
    """-f, of Postfix 3.10."""
    lines = run("-fo", "maildrop", cwd=samples).stdout.splitlines()
    assert lines[0] == b"*** ENVELOPE RECORDS maildrop ***"
    assert lines[1] == b"maildrop:         0 message_arrival_time: Sun Nov 22 16:15:56 2026"
    assert lines[-1] == b"maildrop:       190 *** MESSAGE FILE END maildrop ***"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter the tree that Postfix 3.10 is in")
@pytest.mark.parametrize("options", ["-f", "-fe", "-fvod", "-fbh"])
def test_file_names_stand_where_postfix_puts_them(samples, run, options):
    try:
        tree = oracle.chroot_tree()
    except oracle.Missing as reason:
        pytest.skip(str(reason))
    for name in QUEUE_FILES:
        with (samples / name).open("rb") as file:
            theirs = subprocess.run(
                ["chroot", tree, "postcat", options],
                stdin=file, capture_output=True, check=True, env={"PATH": "/usr/sbin:/usr/bin", "TZ": "UTC"},
            )  # fmt: skip
        ours = run(options, cwd=samples, data=(samples / name).read_bytes())
        # Like all of Postfix that -v asks, it tells more of itself on standard error.
        assert (ours.stdout, ours.stderr, ours.returncode) == (theirs.stdout, b"", 0), name


def test_help_is_given(tmp_path, run):
    result = run("--help", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith(b"usage: postcat ")
    assert run("-x", cwd=tmp_path).returncode == 1
