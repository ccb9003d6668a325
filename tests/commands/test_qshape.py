import itertools
import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyfix.spool.directories import Spool
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.queue_file import QueueFileWriter
from pyfix.spool.queue_id import QueueIds

ROOT = Path(__file__).parents[2]
CALL = "import sys; sys.argv[0] = 'qshape'; from pyfix.commands.qshape import main; main()"  # as the launcher does
# Far from the ends of all buckets, which begin at multiples of half a minute: the clock goes on between two runs.
AGES = (15, 45, 315, 615, 3_015, 40_005, 75_015, 999_975)


def fill(spool, messages=40):
    """Messages of many ages from and to many domains."""
    ids = QueueIds()
    now = int(time.time())
    places = zip(itertools.cycle(("incoming", "active", "deferred")), range(messages), strict=False)
    for (queue, number), age in zip(places, itertools.cycle(AGES), strict=False):
        writer = QueueFileWriter(spool.create(ids.new(now * 1_000_000 + number), queue))
        addresses = [f"r{n}@{'very-' * (n % 4)}long{n % 7}.Sub{number % 5}.example.{'com' if n % 2 else 'net'}"
                     for n in range(number % 9 + 1)]  # fmt: skip
        sender = "" if number % 6 == 0 else f"s@from{number % 3}.example."
        recipients = tuple(NewRecipient(address) for address in (*addresses, "root", "a@b..c.example"))
        writer.begin(NewMessage(sender, (now - age) * 1_000_000, now - age, recipients))
        writer.write_content(b"text\n" * number)
        writer.finish()
        writer.commit()


def environment(spool, tmp_path):
    (tmp_path / "main.cf").write_text(f"queue_directory = {spool.root}\n")
    (tmp_path / "postconf").write_text(f"#!/bin/sh\necho {spool.root}\n")
    (tmp_path / "postconf").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {"PATH": path, "MAIL_CONFIG": str(tmp_path), "PYTHONPATH": str(ROOT), "TERM": "dumb"}


def qshape(spool, tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, "-c", CALL, *arguments], env=environment(spool, tmp_path), capture_output=True, timeout=60
    )


@pytest.mark.system
@pytest.mark.parametrize(
    "arguments",
    [
        (), ("deferred",), ("-s", "deferred", "active"), ("-p",), ("-pm2", "incoming"), ("-b", "4"), ("-b", "1"),
        ("-b", "20", "-t", "500"), ("-l", "-b", "9"), ("-t", "0.5"), ("-w", "150", "-p"), ("-w", "20"), ("-b", "0"),
        ("-n", "3", "-N", "5"), ("-s", "-p", "-m", "1"), ("hold",), ("incoming", "nonesuch"), ("-l", "-t", "50"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_beside_postfix(spool, tmp_path, postfix_package, arguments):
    if not shutil.which("perl"):
        pytest.skip("Postfix's qshape needs perl")
    fill(spool)
    theirs = subprocess.run(
        ["perl", f"{postfix_package}/usr/sbin/qshape", *arguments],
        env=environment(spool, tmp_path), capture_output=True, timeout=60,
    )  # fmt: skip
    ours = qshape(spool, tmp_path, *arguments)
    # Lines with the same sum, and names of the same length, have no order there.
    assert ours.stdout.split(b"\n")[0] == theirs.stdout.split(b"\n")[0]
    assert sorted(ours.stdout.split(b"\n")) == sorted(theirs.stdout.split(b"\n"))
    rank = [(line.split()[1], len(line.split()[0])) for line in ours.stdout.split(b"\n")[1:-1]]
    assert rank == [(line.split()[1], len(line.split()[0])) for line in theirs.stdout.split(b"\n")[1:-1]]


@pytest.mark.system
def test_what_cannot_be_looked_into_is_told_and_the_rest_shown(spool, tmp_path):
    fill(spool, 3)
    done = qshape(spool, tmp_path, "nonesuch", "active")
    assert (done.returncode, done.stderr) == (
        1, f"qshape: warning: {spool.root}/nonesuch: No such file or directory\n".encode()
    )  # fmt: skip
    assert b" TOTAL  4" in done.stdout


@pytest.mark.system
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("-b", "x"), b"-b: 'x' is not a number"), (("-b", "1001"), b"-b: from 1 to 1000 are possible"),
        (("-x",), b"option -x not recognized"), (("-t",), b"option -t requires argument"),
        (("--plat",), b"option --plat not recognized"), (("-t", "1e3"), b"-t: '1e3' is not a number"),
    ],
)  # fmt: skip
def test_wrong_use(spool, tmp_path, arguments, complaint):
    done = qshape(spool, tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, b"")
    assert complaint in done.stderr


@pytest.mark.system
def test_help(spool, tmp_path):
    done = qshape(spool, tmp_path, "-h")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"usage: qshape [-s] [-p]")


@pytest.mark.system
def test_the_plot_into_a_file_is_ascii(spool, tmp_path):
    fill(spool)
    done = qshape(spool, tmp_path, "--plot", "-n", "3", "deferred")
    lines = done.stdout.decode("ascii").split("\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines[0].split() == ["T", "5", "10", "20", "40", "80", "160", "320", "640", "1280", "1280+"]
    assert lines[1].split()[0] == "TOTAL"
    assert set("".join(lines[1].split()[2:])) <= set(".:-=+*#%@")
    assert lines[4:6] == ["", lines[5]]
    assert lines[5].startswith("from: . 1  ")


@pytest.mark.system
def test_a_plot_of_nothing_is_empty(spool, tmp_path):
    done = qshape(spool, tmp_path, "--plot")
    assert done.stdout.split(b"\n")[1:] == [b"             TOTAL  0", b""]


def on_terminal(spool, tmp_path, *arguments, term="xterm-256color"):
    """What the command shows on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", CALL, *arguments],
        env=environment(spool, tmp_path) | {"TERM": term, "COLUMNS": "100"}, stdout=theirs, stdin=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # EIO: nobody has the terminal open any more
                break
        os.close(ours)
    assert process.returncode == 0
    return shown.replace(b"\r\n", b"\n")


@pytest.mark.system
def test_on_a_terminal_it_shows_what_it_knows_so_far_and_only_the_first_lines(spool, tmp_path):
    fill(spool, 30)
    first, *pictures = on_terminal(spool, tmp_path, "-N", "4", "-n", "3", "deferred").split(b"\033[H\033[2J\033[3J")
    assert first == b""
    assert [len(picture.split(b"\n")) for picture in pictures] == [5, 5, 5]
    whole = on_terminal(spool, tmp_path, "-N", "0", "-n", "3", "deferred")
    assert pictures[-1] == whole
    assert b"\033" not in whole


@pytest.mark.system
def test_the_plot_on_a_terminal_has_colours_if_the_terminal_has(spool, tmp_path):
    fill(spool)
    assert b"\033[30;48;5;" in on_terminal(spool, tmp_path, "--plot", "deferred")
    plain = on_terminal(spool, tmp_path, "--plot", "-N", "0", "deferred", term="dumb")
    assert b"\033" not in plain
    assert b"from: . 1 " in plain


@pytest.mark.system
def test_control_characters_of_domains_do_not_reach_a_terminal(spool, tmp_path):
    writer = QueueFileWriter(spool.create(QueueIds().new(1), "incoming"))
    writer.begin(NewMessage("", 1, 1, (NewRecipient("a@\033[31m.example"),)))
    writer.finish()
    writer.commit()
    assert b"?[31m.example" in on_terminal(spool, tmp_path, "-N", "0")
    assert b"?[31m.example" in on_terminal(spool, tmp_path, "--plot", "-N", "0", term="dumb")
    assert b"\033[31m.example" in qshape(spool, tmp_path).stdout


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")
def test_root_acts_as_the_owner_of_each_queue(public_directory, tmp_path):
    root = public_directory / "spool"
    root.mkdir(mode=0o755)
    spool = Spool(str(root))
    spool.make_directories()
    fill(spool, 6)
    os.chown(root / "incoming", 65534, 65534)

    def total():
        done = qshape(spool, tmp_path, "-s", "incoming", "active")
        return done.stdout.split(b"\n")[1].split()[1]

    # The messages in active are root's, and may be read as root; those in incoming are root's too.
    assert total() == b"2"
    for path in (root / "incoming").iterdir():
        os.chown(path, 65534, 65534)
    assert total() == b"4"
    spool.close()
