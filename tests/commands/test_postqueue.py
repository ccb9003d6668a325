"""postqueue and mailq: what they print and how they end, beside Postfix's own."""

import asyncio
import json
import os
import pwd
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from roles.postal_world import World
from roles.serving import FakeRole

from pyfix.commands import postqueue
from pyfix.commands.postqueue import format_json, format_table
from pyfix.roles import flush as flush_role
from pyfix.roles import showq as showq_role
from pyfix.service import showq
from pyfix.service.flush import FLUSH, REGISTER
from pyfix.service.interface import Nothing
from pyfix.service.listing import messages_of
from pyfix.service.queue import QUEUE
from pyfix.service.showq import Message, Page, Recipient
from pyfix.spool.directories import Spool

ROOT = Path(__file__).parents[2]
LONG, SHORT = "4jXZyg57fwzFGn9", "6316C1AE697"
INVALID_SITE = "postqueue: fatal: Cannot flush mail queue - invalid destination"
# Sun Nov 22 16:56:33 2026, UTC
ARRIVAL = 1795366593


def message(*recipients, queue="deferred", queue_id=LONG, size=260, sender="ada@example.org", expire=False):
    return Message(queue, queue_id, ARRIVAL, size, expire, sender, recipients)


def table(*messages, long=True):
    return "".join(format_table(messages, long_queue_ids=long))


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")


def test_an_empty_queue():
    assert table() == "Mail queue is empty\n"
    assert "".join(format_json(())) == ""


def test_the_table_for_long_queue_ids():
    text = table(
        message(Recipient("bob@example.com", "", "test deferral"), Recipient("eve@example.net", "", "test deferral")),
        message(Recipient("x y@example.com"), queue="hold", queue_id=SHORT, size=3335, sender=""),
    )
    assert text == (
        "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------\n"
        "4jXZyg57fwzFGn9        260 Sun Nov 22 16:56:33 ada@example.org\n"
        "                                                               (test deferral)\n"
        "                                               bob@example.com\n"
        "                                               eve@example.net\n"
        "\n"
        "6316C1AE697!          3335 Sun Nov 22 16:56:33 MAILER-DAEMON\n"
        '                                               "x y"@example.com\n'
        "\n"
        "-- 3 Kbytes in 2 Requests.\n"
    )


def test_the_table_for_short_queue_ids():
    text = table(message(Recipient("bob@example.com"), queue_id=SHORT, sender="odd sender@example.org"), long=False)
    assert text == (
        "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n"
        '6316C1AE697     260 Sun Nov 22 16:56:33  "odd sender"@example.org\n'
        "                                         bob@example.com\n"
        "\n"
        "-- 0 Kbytes in 1 Request.\n"
    )


@pytest.mark.parametrize(
    ("queue", "expire", "mark"),
    [
        ("active", False, "*"),
        ("hold", False, "!"),
        ("incoming", False, " "),
        ("deferred", True, "#"),
        ("active", True, "*#"),
        ("hold", True, "!#"),
    ],
)
def test_the_mark_behind_the_queue_id(queue, expire, mark):
    line = table(message(queue=queue, expire=expire)).split("\n")[1]
    assert line.startswith(f"{LONG}{mark} ")


def test_a_reason_is_shown_when_it_changes():
    text = table(
        message(
            Recipient("a@x", "", "first"),
            Recipient("b@x", "", "first"),
            Recipient("c@x", "", "second"),
            Recipient("d@x"),
            Recipient("e@x"),
        ),
        message(Recipient("f@x"), Recipient("g@x", "", "first"), queue_id=SHORT),
    )
    shown = [line.strip() for line in text.split("\n") if line.startswith("   ")]
    assert shown == [
        *("(first)", "a@x", "b@x", "(second)", "c@x", "(reason unavailable)", "d@x", "e@x"),
        *("f@x", "(first)", "g@x"),
    ]


def test_a_long_reason_is_not_cut():
    reason = "r" * 200
    assert f"\n({reason})\n" in table(message(Recipient("a@x", "", reason)))


def test_what_comes_from_mail_cannot_steer_a_terminal():
    reason = 'tab\there "quoted" back\\slash \x1b[31m \x7f del \xe9 utf8 \x9b \ufffd bad'
    shown = 'tab?here "quoted" back\\slash ?[31m ? del \xe9 utf8 ? ? bad'
    sender = "a\x1b\n@example.org\n"
    messages = [message(Recipient("a\r@x", "", reason), sender=sender)]
    text = table(*messages)
    assert f"({shown})\n" in text
    assert [len(line.encode()) for line in text.split("\n") if shown in line] == [78]
    assert '"a??"@example.org?\n' in text
    [line] = "".join(format_json(messages)).removesuffix("\n").split("\n")
    parsed = json.loads(line)
    assert parsed["recipients"] == [{"address": '"a?"@x', "delay_reason": shown}]
    assert parsed["sender"] == '"a??"@example.org?'


def test_json():
    text = "".join(
        format_json(
            [
                message(
                    Recipient("bob@example.com", "alias@example.com", "test deferral"),
                    Recipient("eve@example.net", "", "no such user", "bounce"),
                    Recipient("joe@example.net"),
                ),
                message(queue="hold", queue_id=SHORT, sender="", expire=True),
            ]
        )
    )
    assert text == (
        '{"queue_name": "deferred", "queue_id": "4jXZyg57fwzFGn9", "arrival_time": 1795366593, "message_size": 260, '
        '"forced_expire": false, "sender": "ada@example.org", "recipients": ['
        '{"orig_address": "alias@example.com", "address": "bob@example.com", "delay_reason": "test deferral"}, '
        '{"address": "eve@example.net", "bounce_reason": "no such user"}, {"address": "joe@example.net"}]}\n'
        '{"queue_name": "hold", "queue_id": "6316C1AE697", "arrival_time": 1795366593, "message_size": 260, '
        '"forced_expire": true, "sender": "MAILER-DAEMON", "recipients": []}\n'
    )


def test_parts_of_a_message_are_one_message():
    parts = [message(Recipient("a@x", "", "why")), message(Recipient("b@x", "", "why"))]
    text = table(*parts)
    assert text.count("(why)") == 1
    assert "in 1 Request." in text
    [line] = "".join(format_json(parts)).removesuffix("\n").split("\n")
    assert [r["address"] for r in json.loads(line)["recipients"]] == ["a@x", "b@x"]


class Place:
    """A directory with a configuration, in which commands are run."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "spool").mkdir()
        spool = Spool(str(directory / "spool"))
        spool.make_directories()
        spool.close()
        (directory / "main.cf").write_text(f"queue_directory = {directory}/spool\nmail_name = Pyfix\n")

    def environment(self):
        return os.environ | {
            "MAIL_CONFIG": str(self.directory),
            "PYFIX_RUNTIME": str(self.directory / "run"),
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *arguments, command="postqueue", user=None, **options):
        return subprocess.run(
            [sys.executable, "-m", f"pyfix.commands.{command}", *arguments], env=self.environment(),
            user=user, capture_output=True, text=True, check=False, timeout=30, **options,
        )  # fmt: skip

    def start(self, *arguments, **options):
        return subprocess.Popen(
            [sys.executable, "-m", "pyfix.commands.postqueue", *arguments], env=self.environment(), **options
        )


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


USAGE = (
    "postqueue: fatal: usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site\n"
)
DOWN = "postqueue: fatal: Cannot flush mail queue - mail system is down\n"
WRONG_ARGUMENTS = [
    *([], ["-p", "-j"], ["-p", "queue"], ["-ff"], ["-f", "x"]),
    *(["-i", name] for name in ("a/b", "", "\xe4bcdef", "a b", "a\tb", "x/" * 100, "a\n")),
    *(["-s", site] for site in ("", "bad_site!", "127.0.0.1", "1.2", "[1.2]", "[::1]", "[", "[]", "x" * 300, "a b")),
    *(["-s", site] for site in ("a.b.", ".a", "-a.b", "a-.b", "ex\xe4mple.de", "a..b", "x" * 64 + ".b", "[127.0.0.1")),
]
# What is well formed gets as far as the mail system, which is down here.
WELL_FORMED = [
    *(["-f"], ["-i", "ABC"], ["-i", LONG], ["-i", SHORT], ["-i", "a_b"], ["-i", "x" * 255]),
    *(
        ["-s", site]
        for site in ("example.com", "a.example.com", "[127.0.0.1]", "[IPv6:::1]", "EXAMPLE.com", "a_b.example.com")
    ),
]


@pytest.mark.system
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], USAGE),
        (["-p", "-j"], USAGE),
        (["-i", "a/b"], 'postqueue: fatal: Cannot flush queue ID - invalid name: "a/b"\n'),
        (["-s", "x" * 101 + "!"], f'{INVALID_SITE}: "{"x" * 100}..."\n'),
        *((arguments, DOWN) for arguments in WELL_FORMED),
    ],
)
def test_how_it_gives_up(place, arguments, error):
    ended = place.run(*arguments)
    *warnings, last = ended.stderr.splitlines(keepends=True)
    assert (ended.returncode, ended.stdout, last) == (69, "", error)
    socket = f"{place.directory}/run/flush/io.pyfix.Flush"
    warning = f"postqueue: warning: connect to {socket}: No such file or directory\n"
    assert warnings == ([warning] if error == DOWN else [])


@pytest.mark.system
def test_it_gives_up_as_postfix_does(postfix, place, monkeypatch, capfd):
    """Also where the mail system is down, but for the names of its sockets, which warnings tell."""
    (postfix.conf / "main.cf").write_text(f"{(postfix.conf / 'main.cf').read_text()}fast_flush_domains = static:all\n")
    for name in ("MAIL_CONFIG", "PYFIX_RUNTIME"):
        monkeypatch.setenv(name, place.environment()[name])
    for arguments in [*WRONG_ARGUMENTS, *WELL_FORMED]:
        monkeypatch.setattr(sys, "argv", ["postqueue", *arguments])
        with pytest.raises(SystemExit) as ended:
            postqueue.main()
        expected = postfix.attempt("postqueue", *arguments)
        assert ended.value.code == expected.returncode == 69, arguments
        last = expected.stderr.decode("utf-8", "backslashreplace").splitlines()[-1]
        assert capfd.readouterr().err.splitlines()[-1] == last, arguments


@pytest.mark.system
def test_an_unknown_option(place):
    ended = place.run("-x")
    assert ended.returncode == 69
    assert ended.stderr.endswith(USAGE)


@pytest.mark.system
def test_a_broken_configuration(place):
    (place.directory / "main.cf").write_text("enable_long_queue_ids = perhaps\n")
    ended = place.run("-p")
    assert ended.returncode == 69
    assert "main.cf, line 1: parameter enable_long_queue_ids" in ended.stderr


@pytest.mark.system
@pytest.mark.parametrize("command", ["postqueue", "mailq"])
def test_root_reads_the_queue_when_the_system_is_down(place, command):
    world = World(place.directory)
    queue_id = world.put("bob@example.com", queue="deferred")
    ended = place.run(*(["-p"] if command == "postqueue" else []), command=command)
    assert ended.returncode == 0
    assert queue_id in ended.stdout
    assert ended.stderr == (
        "postqueue: warning: Mail system is down -- accessing queue directly "
        "(Connect to the Pyfix showq service: No such file or directory)\n"
    )


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="another user must be had")
def test_others_are_told_that_the_system_is_down(public_directory):
    place = Place(public_directory)
    os.chown(public_directory / "spool", 1, 1)
    ended = place.run("-p", user="nobody", cwd="/")
    assert (ended.returncode, ended.stdout) == (69, "")
    assert ended.stderr == (
        "postqueue: fatal: Queue report unavailable - mail system is down "
        "(Connect to the Pyfix showq service: No such file or directory)\n"
    )


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="another user must be had")
def test_a_socket_out_of_reach_is_no_system_that_is_down(public_directory):
    place = Place(public_directory)
    (public_directory / "run/showq").mkdir(parents=True, mode=0o755)
    (public_directory / "run/showq").chmod(0o700)
    ended = place.run("-p", user="nobody", cwd="/")
    error = "postqueue: fatal: Connect to the Pyfix showq service: Permission denied\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (69, "", error)


def serving(place, scenario, **parameters):
    """Runs a function in a thread while showq, flush, and a fake of qmgr serve; what qmgr was asked for."""
    asked = []
    roles = {showq.INTERFACE: "showq", FLUSH: "flush", REGISTER: "register", QUEUE: "qmgr"}

    class Role(FakeRole):
        def path(self, interface):
            directory = self.directory / "run" / roles[interface]
            directory.mkdir(parents=True, exist_ok=True)
            return str(directory / interface.name)

        def implement(self, interface, handlers, **limits):
            super().implement(interface, handlers, **limits)
            os.chmod(self.path(interface), 0o666)

    def flushed(call):
        asked.append((call.parameters.queue_ids, call.parameters.wanted))
        return Nothing()

    async def main():
        role = Role(place.directory, parameters)
        try:
            role.implement(QUEUE, {"Announce": lambda _call: Nothing(), "Flush": flushed})
            await showq_role.start(role)
            await flush_role.start(role)
            await asyncio.to_thread(scenario)
        finally:
            await role.close()

    asyncio.run(main())
    return asked


@pytest.mark.system
def test_the_queue_as_showq_tells_it(place):
    world = World(place.directory)
    queue_ids = [world.put("bob@example.com", queue="deferred") for _ in range(120)]

    def scenario():
        ended = place.run("-j")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert {json.loads(line)["queue_id"] for line in ended.stdout.removesuffix("\n").split("\n")} == set(queue_ids)
        ended = place.run("-p")
        assert ended.stdout.endswith("Kbytes in 120 Requests.\n")

    serving(place, scenario)


@pytest.mark.system
def test_the_first_lines_are_shown_before_the_last_are_known(place):
    shown = threading.Event()

    async def list_pages(_call):
        yield Page(tuple(message(Recipient("bob@example.com"), queue_id=f"{n:08X}") for n in range(100)))
        while not shown.is_set():  # noqa: ASYNC110 -- a thread's doing
            await asyncio.sleep(0.01)
        yield Page((message(Recipient("bob@example.com"), queue_id="F0000000"),))

    async def main():
        role = FakeRole(place.directory)
        (place.directory / "run/showq").mkdir(parents=True)
        role.path = lambda interface: str(place.directory / "run/showq" / interface.name)
        role.implement(showq.INTERFACE, {"List": list_pages})
        try:
            await asyncio.to_thread(watch)
        finally:
            await role.close()

    def watch():
        with place.start("-p", stdout=subprocess.PIPE) as listing:
            head, first = listing.stdout.readline(), listing.stdout.readline()
            shown.set()
            rest = listing.stdout.read()
        assert head.startswith(b"----Queue ID-----")
        assert first.startswith(b"00000000 ")
        assert rest.endswith(b"in 101 Requests.\n")

    asyncio.run(main())


@pytest.mark.system
def test_flush(place):
    (place.directory / "spool/flush/example_com").write_text(f"{SHORT}\n")

    def scenario():
        for arguments in (["-f"], ["-i", LONG], ["-i", "nosuch"], ["-s", "example.com"], ["-s", "none.example.com"]):
            ended = place.run(*arguments)
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        ended = place.run("-s", "example.org")
        error = 'postqueue: fatal: Flush service is not configured for destination "example.org"\n'
        assert (ended.returncode, ended.stdout, ended.stderr) == (69, "", error)

    asked = serving(place, scenario, fast_flush_domains="example.com")
    assert asked == [((), True), ((LONG,), True), ((SHORT,), True)]


@pytest.mark.system
def test_flush_by_sendmail(place):
    (place.directory / "spool/flush/example_com").write_text(f"{SHORT}\n")

    def scenario():
        for arguments in (["-q"], [f"-qI{LONG}"], ["-qRexample.com"], ["-q", "-q5m"]):
            ended = place.run(*arguments, command="sendmail")
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

    asked = serving(place, scenario, fast_flush_domains="example.com")
    assert asked == [((), True), ((LONG,), True), ((SHORT,), True)]


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="another user must be had")
def test_who_is_not_on_the_lists(public_directory):
    """The services turn away whom the lists do not have, with Postfix's words."""
    place = Place(public_directory)
    World(place.directory).put("bob@example.com", queue="deferred")
    who = f"nobody({pwd.getpwnam('nobody').pw_uid})"

    def scenario():
        for user, name in (("nobody", who), (54321, "unknown(54321)")):
            for arguments, what in (
                ("-p", "view"),
                ("-j", "view"),
                ("-f", "flush"),
                ("-iABC", "flush"),
                ("-sa.b", "flush"),
            ):
                ended = place.run(arguments, user=user, cwd="/")
                error = f"postqueue: fatal: User {name} is not allowed to {what} the mail queue\n"
                assert (ended.returncode, ended.stdout, ended.stderr) == (69, "", error)
        assert place.run("-p", user="bin", cwd="/").returncode == 0
        assert place.run("-p").returncode == 0

    lists = {"authorized_mailq_users": "bin", "authorized_flush_users": "root"}
    assert serving(place, scenario, **lists) == []


@pytest.mark.system
def test_a_reader_who_leaves(place):
    world = World(place.directory)
    for _ in range(3):
        world.put("bob@example.com", queue="deferred")
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"MAIL_CONFIG": str(place.directory), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-m", "pyfix.commands.postqueue", "-p"],
        env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=30,
    )  # fmt: skip
    os.close(write)
    assert ended.returncode == 69
    assert ended.stderr.endswith("postqueue: fatal: output write error: Broken pipe\n")


def by_message(text):
    """The table's messages in the order of their text, the head and the foot."""
    head, _, rest = text.partition("\n")
    *messages, foot = rest.split("\n\n")
    return head, sorted(messages), foot


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix must be started")
@pytest.mark.parametrize("long_queue_ids", ["yes", "no"])
def test_the_same_queue_shown_by_postfix(postfix, long_queue_ids):
    settings = (postfix.conf / "main.cf").read_text()
    (postfix.conf / "main.cf").write_text(f"{settings}enable_long_queue_ids = {long_queue_ids}\n")
    os.utime(postfix.conf / "main.cf", (1_000_000_000, 1_000_000_000))
    with postfix.started():
        postfix.run("sendmail", "-f", "ada@example.org", "bob@example.com", "eve@example.net", data=b"\nhello\n")
        postfix.run("sendmail", "-f", "", "x@example.com", data=b"Subject: long\n\n" + b"text\n" * 2000)
        postfix.run("sendmail", "-f", '"odd sender"@example.org', '"x y"@example.com', data=b"\n\n")
        postfix.run("sendmail", "-f", "ada@example.org", "held@example.com", data=b"\nhold\n")
        postfix.wait_for(lambda: len(postfix.files("deferred")) == 4)
        postfix.wait_for(lambda: postfix.files("active", "incoming") == [])
        postfix.run("postsuper", "-h", postfix.files("deferred")[0].name)
        expected_table = postfix.run("postqueue", "-p").decode()
        expected_json = postfix.run("postqueue", "-j").decode()
    spool = Spool(str(postfix.spool))
    long = long_queue_ids == "yes"
    found_table = "".join(format_table(messages_of(spool), long_queue_ids=long))
    found_json = "".join(format_json(messages_of(spool)))
    spool.close()
    assert by_message(found_table) == by_message(expected_table)
    assert sorted(found_json.split("\n")) == sorted(expected_json.split("\n"))
