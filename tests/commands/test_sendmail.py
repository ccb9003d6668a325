"""sendmail: its command line, and what reaches postdrop."""

import asyncio
import fcntl
import os
import re
import select
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from roles.serving import FakeRole, run

from pyfix.commands._request import Request, parse
from pyfix.service.interface import Nothing
from pyfix.service.postdrop import INTERFACE, Committed, Open, Refused, RefusedParameters

ROOT = Path(__file__).parents[2]


def options(request) -> dict[str, object]:
    """What differs from a plain command line."""
    plain = vars(Request("m"))
    return {name: value for name, value in vars(request).items() if value != plain[name]}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bob", {"arguments": ["bob"]}),
        ("-t", {"extract": True}),
        ("-ti", {"extract": True, "dot_ends": False}),
        ("-oi bob", {"dot_ends": False, "arguments": ["bob"]}),
        ("-oem -i bob", {"dot_ends": False, "arguments": ["bob"]}),
        ("-f ada bob", {"sender": "ada", "arguments": ["bob"]}),
        ("-fada -- -bob", {"sender": "ada", "arguments": ["-bob"]}),
        ("-r ada bob -i", {"sender": "ada", "arguments": ["bob", "-i"]}),
        ("-FAda bob", {"full_name": "Ada", "arguments": ["bob"]}),
        ("-B8BITMIME bob", {"encoding": "8bit", "arguments": ["bob"]}),
        ("-B 7BIT bob", {"encoding": "7bit", "arguments": ["bob"]}),
        ("-N success,delay bob", {"notify": 10, "arguments": ["bob"]}),
        ("-N never bob", {"notify": 1, "arguments": ["bob"]}),
        ("-R hdrs bob", {"ret": "HDRS", "arguments": ["bob"]}),
        ("-V id=1 bob", {"envid": "id=1", "arguments": ["bob"]}),
        ("-O smtputf8=yes bob", {"smtputf8": True, "arguments": ["bob"]}),
        ("-Am -bm -G -h5 -L tag -m -o7 -om -x -U -v -X", None),
        ("-Am -bm -G -h5 -L tag -m -o7 -om -x -U -p SMTP -O x -e m bob", {"arguments": ["bob"]}),
        ("-v bob", {"arguments": ["bob"], "trace": "record", "verbose": 1}),
        ("-vv bob", {"arguments": ["bob"], "verbose": 2}),
        ("-bv bob", {"arguments": ["bob"], "trace": "verify"}),
        ("-bv -vv bob", {"arguments": ["bob"], "trace": "verify", "verbose": 2}),
        ("-v -bp", {"mode": "p", "verbose": 1}),
        ("-XV bob", {"arguments": ["bob"], "verp": ""}),
        ("-XV+= bob", {"arguments": ["bob"], "verp": "+="}),
        ("-bv -t", None),
        ("-bv -N delay bob", None),
        ("-bv -R hdrs bob", None),
        ("-bv -v bob", None),
        ("-Xlog bob", None),
        ("-q", {"mode": "q"}),
        ("-q15m", {"interval": True}),
        ("-qIabc", {"flush_id": "abc"}),
        ("-qRexample.com", {"flush_site": "example.com"}),
        ("-bp", {"mode": "p"}),
        ("-bs", {"mode": "s"}),
        ("-bH", {"mode": "h"}),
        ("-I", {"mode": "i"}),
        ("-n bob", None),
        ("-Z", None),
        ("-f", None),
        ("-bz", None),
        ("-B 9BIT x", None),
        ("-qX", None),
        ("-qI", None),
        ("-oA", None),
        ("-bp bob", None),
        ("-t -bs", None),
        ("-qIabc -bp", None),
    ],
)
def test_command_line(line: str, expected) -> None:
    """None: it is refused, with Postfix's exit status."""
    if expected is None:
        with pytest.raises(SystemExit) as caught:
            parse("sendmail", line.split())
        assert caught.value.code == os.EX_TEMPFAIL
    else:
        assert expected == options(parse("sendmail", line.split()))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("-N never,delay bob", "bad -N option value -- ignored"),
        ("-R most bob", "bad -R option value -- ignored"),
        (f"-V {'x' * 101} bob", "too long -V option value -- ignored"),
        ("-V \u00e9\u00e9\u00e9 bob", "bad syntax in -V option value -- ignored"),
    ],
)
def test_values_that_are_ignored(line: str, text: str, capfd) -> None:
    assert options(parse("sendmail", line.split())) == {"arguments": ["bob"]}
    assert capfd.readouterr().err == f"sendmail: warning: {text}\n"


def test_the_first_bad_word_of_a_notification_request(capfd) -> None:
    assert options(parse("sendmail", ["-N", "delay,perhaps,no", "bob"])) == {"arguments": ["bob"]}
    assert capfd.readouterr().err == (
        'sendmail: warning: unknown DSN NOTIFY command value "perhaps" in "delay,perhaps,no"\n'
        "sendmail: warning: bad -N option value -- ignored\n"
    )


@pytest.mark.parametrize(
    ("line", "text", "expected"),
    [
        ("-V += bob", "option -V is deprecated with Postfix 2.3; specify -XV instead", ("", ["+=", "bob"])),
        ("-V+= bob", "option -V+= is deprecated with Postfix 2.3; specify -XV+= instead", ("+=", ["bob"])),
    ],
)
def test_old_ways_to_ask_for_verp(line: str, text: str, expected, capfd) -> None:
    request = parse("sendmail", line.split())
    assert (request.verp, request.arguments) == expected
    assert capfd.readouterr().err == f"sendmail: warning: {text}\n"


@pytest.mark.parametrize(("name", "mode"), [("mailq", "p"), ("newaliases", "i")])
def test_other_names(name: str, mode: str) -> None:
    assert parse(name, []).mode == mode


def test_another_configuration(monkeypatch) -> None:
    monkeypatch.setenv("MAIL_CONFIG", "/etc/pyfix")
    for argument, directory in (("/tmp/x/main.cf", "/tmp/x"), ("/tmp/y", "/tmp/y")):
        assert parse("sendmail", ["-C", argument]).directory == os.environ["MAIL_CONFIG"] == directory


class Postdrop:
    """Takes one submission after the other; ``answer`` is raised at Open or at Commit."""

    def __init__(self, role: FakeRole, at: str = "", answer: Refused | None = None) -> None:
        self.got: list[tuple[Open, bytes]] = []
        self._answers = {at: answer}
        os.makedirs(role.directory / "postdrop", exist_ok=True)
        role.directory = role.directory / "postdrop"
        role.implement(INTERFACE, {"Open": self.open, "Commit": self.commit, "Store": self.store})

    def open(self, call) -> Nothing:
        if self._answers.get("Open") is not None:
            raise self._answers["Open"]
        fd = call.take_fd(call.parameters.content)
        if self._answers.get("Content") is not None:
            os.close(fd)
            self._answers["Commit"] = self._answers["Content"]
            return Nothing()
        call.connection.state = (call.parameters, asyncio.create_task(asyncio.to_thread(_read_all, fd)))
        return Nothing()

    async def store(self, call) -> Committed:
        self.open(call)
        return await self.commit(call)

    async def commit(self, call) -> Committed:
        if self._answers.get("Commit") is not None:
            raise self._answers["Commit"]
        if call.connection.state is None:
            raise Refused(RefusedParameters("5.5.1", "no submission is open on this connection"))
        request, reading = call.connection.state
        self.got.append((request, await reading))
        return Committed("4abc")


def _read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


def send(
    directory,
    *arguments: str,
    text: bytes = b"Subject: x\n\nhi\n",
    at: str = "",
    answer=None,
    output: bytes | None = None,
    **environment: str,
):
    """Runs sendmail; its exit status, what it says on standard error, and what postdrop got.

    ``output``, where it is given, is to be on its standard output.
    """
    results = []

    async def scenario(role: FakeRole) -> None:
        service = Postdrop(role, at, answer)
        variables = os.environ | {"MAIL_CONFIG": str(directory), "PYFIX_RUNTIME": str(directory)} | environment
        ran = await asyncio.to_thread(
            subprocess.run, [*COMMAND, *arguments], input=text, capture_output=True, env=variables, check=False
        )
        results.extend((ran.returncode, ran.stderr.decode(), service.got))
        assert output in (None, ran.stdout)

    run(directory, scenario)
    return results


_SOURCE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.argv[0] = "sendmail"
from pyfix.commands.sendmail import main
sys.exit(main())
"""
COMMAND = [sys.executable, "-IS", "-c", _SOURCE]
system = pytest.mark.system


@system
def test_a_message(tmp_path) -> None:
    content = b"Subject: x\r\n\r\n" + b"line\r\n" * 50_000 + b".\r\nnot this\r\n"
    arguments = (
        "-f",
        "ada@example.org",
        "-N",
        "delay",
        "-V",
        "id1",
        "-R",
        "full",
        "-B8BITMIME",
        "bob",
        "eve@example.com",
    )
    status, errors, got = send(tmp_path, *arguments, text=content, NAME="Ada L")
    assert (status, errors) == (0, "")
    ((request, text),) = got
    assert text == b"Subject: x\n\n" + b"line\n" * 50_000
    assert request == Open(
        0,
        "ada@example.org",
        ("bob", "eve@example.com"),
        full_name="Ada L",
        envid="id1",
        ret="FULL",
        notify=8,
        encoding="8bit",
    )


@system
@pytest.mark.parametrize(
    ("arguments", "sender", "recipients"),
    [
        (("-f", "", "bob"), "", ("bob",)),
        (("-f", "<>", "bob"), "", ("bob",)),
        (("bob, Eve <eve@example.com>",), None, ("bob", "eve@example.com")),
        (("-f", "Ada Lovelace <ada@example.org>", '"a b"@example.com'), "ada@example.org", ("a b@example.com",)),
        (("\u00e9@example.com",), None, ("\u00e9@example.com",)),
    ],
)
def test_addresses(tmp_path, arguments, sender, recipients) -> None:
    status, errors, got = send(tmp_path, *arguments)
    assert (status, errors) == (0, "")
    assert (got[0][0].sender, got[0][0].recipients) == (sender, recipients)


@system
def test_whoever_types_a_message_holds_nothing_meanwhile(tmp_path) -> None:
    """postdrop hears of a message when it is whole, so it can end for want of work, or be started anew."""
    path = tmp_path / "postdrop" / "io.pyfix.Postdrop"
    path.parent.mkdir()
    environment = os.environ | {"PYFIX_RUNTIME": str(tmp_path)}
    with (
        socket.socket(socket.AF_UNIX) as listener,
        subprocess.Popen([*COMMAND, "bob"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as typing,
    ):
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)
        os.write(typing.stdin.fileno(), b"Subject: x\n")
        while fcntl.ioctl(typing.stdin, termios.FIONREAD, bytes(4)) != bytes(4):
            assert typing.poll() is None
        assert select.select([listener], [], [], 0)[0] == []
        typing.stdin.close()
        listener.accept()[0].close()
        assert typing.wait(10) == os.EX_TEMPFAIL


@system
def test_recipients_from_the_header(tmp_path) -> None:
    _, _, got = send(tmp_path, "-t", "-F", "", text=b"To: bob\n\nhi\n")
    assert (got[0][0].extract_recipients, got[0][0].recipients, got[0][0].full_name) == (True, (), "")


@system
def test_no_recipients(tmp_path) -> None:
    status, errors, got = send(tmp_path)
    assert (status, got) == (os.EX_TEMPFAIL, [])
    text = "Recipient addresses must be specified on the command line or via the -t option"
    assert errors.endswith(f"({os.getuid()}): {text}\n")


@system
@pytest.mark.parametrize(
    "text",
    [
        b"Subject: x\n\nTo: bob\n",
        b"To:\n\nhi\n",
        b"To: undisclosed-recipients:;\nCc: (nobody)\nBcc: <>\n\nhi\n",
        b"hello\nTo: bob\n\nhi\n",
        b"To: \0bob\n\nhi\n",
        b"",
    ],
)
def test_no_recipients_in_the_header(tmp_path, text: bytes) -> None:
    status, errors, got = send(tmp_path, "-t", text=text)
    assert (status, got) == (os.EX_TEMPFAIL, [])
    assert errors.endswith(f"({os.getuid()}): No recipient addresses found in message header\n")


@system
@pytest.mark.parametrize("field", ["To: bob", "to : Bob <bob@example.com>", "Resent-Bcc:\n bob"])
def test_a_recipient_in_the_header(tmp_path, field: str) -> None:
    status, errors, got = send(tmp_path, "-t", text=f"Subject: x\n{field}\n\nhi\n".encode())
    assert (status, errors, len(got)) == (0, "", 1)


@system
@pytest.mark.parametrize("at", ["Open", "Content", "Commit"])
@pytest.mark.parametrize("status", ["4.3.1", "5.3.4", "5.7.1", "5.1.7", "5.5.2"])
@pytest.mark.parametrize("size", [1, 300_000], ids=["fits into a pipe", "fits into none"])
def test_refusals(tmp_path, at: str, status: str, size: int) -> None:
    refusal = Refused(RefusedParameters(status, "because"))
    found, errors, _ = send(tmp_path, "-t", text=b"To: bob\n\n" + b"x" * size, at=at, answer=refusal)
    assert found == os.EX_TEMPFAIL
    assert errors.startswith("sendmail: fatal: because" if status in {"5.7.1", "5.1.7"} else "sendmail: fatal: ")
    assert errors.endswith("because\n")


# Postfix reads the command line twice, and complains twice.
COMPLAINTS = ["-Z", "-f"]
REFUSED = [
    *("", "-bz", "-B9 x", "-n x", "-qX", "-qSx", "-qI", "-qR", "-qRx -bp", "-qIABC bob", "-qRx bob", "-bp x", "-q x"),
    *("-t", "-t -bp", "-bv", "-bv -t", "-bv -N never bob", "-bv -R hdrs bob", "-bv -v bob", "-Xlog bob", "-XVab bob"),
    *("-XV+ bob", "-XV -t", "-f ada@example.org", "-f<>", "-XV -f <> bob", "-N success,perhaps", "-V+=", "-oA x"),
]


@system
@pytest.mark.parametrize("line", [*COMPLAINTS, *REFUSED])
def test_refusals_beside_postfix(postfix, tmp_path, line: str) -> None:
    """What is wrong with the command line, or with the message, while neither system is running."""
    text = b"Subject: x\n\nTo: bob\n"
    environment = os.environ | {"MAIL_CONFIG": str(tmp_path), "PYFIX_RUNTIME": str(tmp_path)}
    (tmp_path / "main.cf").write_text("")
    ours = subprocess.run([*COMMAND, *line.split()], input=text, capture_output=True, env=environment, check=False)
    theirs = postfix.attempt("sendmail", *line.split(), data=text)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    if line in REFUSED:
        assert ours.stderr == theirs.stderr


@system
@pytest.mark.parametrize(
    "line", ["mailq x", "mailq -Z", "mailq -qIABC", "mailq -t", "newaliases x", "newaliases -qRx"], ids=str
)
def test_refusals_by_other_names_beside_postfix(postfix, tmp_path, line: str) -> None:
    environment = os.environ | {"MAIL_CONFIG": str(tmp_path), "PYFIX_RUNTIME": str(tmp_path)}
    name, *arguments = line.split()
    command = [word.replace('"sendmail"', repr(name)) for word in COMMAND]
    ours = subprocess.run([*command, *arguments], capture_output=True, env=environment, check=False)
    theirs = postfix.attempt("sendmail", *arguments, name=name)
    assert ours.returncode == theirs.returncode == os.EX_TEMPFAIL
    # Postfix reads the command line twice, and complains twice.
    assert ours.stderr.splitlines() == list(dict.fromkeys(theirs.stderr.splitlines()))


@system
@pytest.mark.parametrize(
    ("arguments", "trace", "delimiters"),
    [
        (("-v",), "record", ""),
        (("-bv",), "verify", ""),
        (("-vv",), "none", ""),
        (("-XV",), "none", "+="),
        (("-XV=-", "-v"), "record", "=-"),
    ],
)
def test_reports_and_return_paths(tmp_path, arguments, trace: str, delimiters: str) -> None:
    (tmp_path / "main.cf").write_text("")
    status, errors, got = send(tmp_path, *arguments, "bob")
    assert (status, errors) == (0, "")
    assert (got[0][0].trace, got[0][0].verp_delimiters) == (trace, delimiters)


@system
@pytest.mark.parametrize("sender", [None, "", "ada@example.org", '"a b"@example.org'])
def test_where_the_report_goes(postfix, tmp_path, sender) -> None:
    """Postfix's words for it."""
    arguments = ["-v", *(("-f", sender) if sender is not None else ()), "bob"]
    status, errors, _ = send(tmp_path, *arguments, output=postfix.attempt("sendmail", *arguments, data=b"x\n").stdout)
    assert (status, errors) == (0, "")


@system
def test_nobody_there(tmp_path) -> None:
    environment = os.environ | {"PYFIX_RUNTIME": str(tmp_path)}
    ran = subprocess.run([*COMMAND, "bob"], input=b"x", capture_output=True, env=environment, check=False)
    assert ran.returncode == os.EX_TEMPFAIL
    assert b"mail system is down" in ran.stderr


@system
def test_odd_surroundings(tmp_path) -> None:
    """Closed standard descriptors, a locale that is not UTF-8, a directory as standard input."""
    status, errors, got = send(tmp_path, "bob", LC_ALL="C", PYTHONUTF8="0")
    assert (status, errors, len(got)) == (0, "", 1)
    closed = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *COMMAND, "bob"]
    environment = os.environ | {"PYFIX_RUNTIME": str(tmp_path)}
    assert subprocess.run(closed, env=environment, check=False).returncode == os.EX_TEMPFAIL


@system
def test_bytes_that_are_no_text(tmp_path) -> None:
    environment = os.environ | {"PYFIX_RUNTIME": str(tmp_path)}
    ran = subprocess.run([*COMMAND, b"b\xff"], input=b"x", capture_output=True, env=environment, check=False)
    assert ran.returncode == os.EX_TEMPFAIL


@system
def test_line_ends_are_left_alone_where_main_cf_says_so(tmp_path) -> None:
    (tmp_path / "main.cf").write_text("sendmail_fix_line_endings = never\n")
    assert send(tmp_path, "bob", text=b"a\r\n")[2][0][1] == b"a\r\n"


@system
def test_start_up_is_cheap(tmp_path) -> None:
    """It imports little more than a Python that does nothing: re or socket alone would double what a start costs."""

    def imports(program: str, *arguments: str) -> set[str]:
        command = [sys.executable, "-X", "importtime", "-IS", "-c", program, *arguments]
        environment = os.environ | {"PYFIX_RUNTIME": str(tmp_path)}
        ran = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, input="")
        return set(re.findall(r"(?m)^import time:.*\| +([\w.]+)$", ran.stderr))

    more = imports(_SOURCE, "bob") - imports("")
    assert "pyfix.commands.sendmail" in more
    assert {name for name in more if name.partition(".")[0] != "pyfix"} == {"_socket", "pwd"}
    assert len(more) <= 12


def speak(directory, *lines: str, **names):
    """Runs sendmail -bs with input that ends without waiting for replies; the replies and what postdrop got."""
    results = []

    async def scenario(role: FakeRole) -> None:
        service = Postdrop(role, **names)
        variables = os.environ | {"MAIL_CONFIG": str(directory), "PYFIX_RUNTIME": str(directory)}
        (directory / "input").write_text("".join(f"{line}\r\n" for line in lines))
        for source in (
            ["sh", "-c", f'cat {directory}/input | $0 "$@"'],
            ["sh", "-c", f'exec < {directory}/input; $0 "$@"'],
        ):
            ran = await asyncio.to_thread(
                subprocess.run, [*source, *COMMAND, "-bs"], capture_output=True, env=variables, check=False
            )
            results.append((ran.returncode, ran.stderr.decode(), ran.stdout.decode().split("\r\n")[:-1]))
        results.append(service.got)

    (directory / "main.cf").write_text("myhostname = mx.example.org\n")
    run(directory, scenario)
    return results


MAIL = ("MAIL FROM:<ada@example.org> RET=HDRS", "RCPT TO:<bob@example.com> NOTIFY=DELAY", 'RCPT TO:<"a b"@x.y>')


@system
def test_smtp_on_standard_input(tmp_path) -> None:
    message = (*MAIL, "DATA", "Subject: x", "", "..", "hi", ".")
    from_pipe, from_file, got = speak(tmp_path, "EHLO here", *message, *message)
    assert from_pipe[:2] == from_file[:2] == (0, "")
    for _, _, replies in (from_pipe, from_file):
        assert replies[0] == "220 mx.example.org ESMTP pyfix"
        assert replies.count("250 2.0.0 Ok: queued as 4abc") == 2
    assert len(got) == 4
    assert {text for _, text in got} == {b"Subject: x\n\n.\nhi\n"}
    assert {(r.sender, r.recipients, r.ret, r.notify) for r, _ in got} == {
        ("ada@example.org", ("bob@example.com", "a b@x.y"), "HDRS", 0)
    }


@system
def test_a_message_that_is_not_whole_at_the_end_of_the_input_is_dropped(tmp_path) -> None:
    from_pipe, _, got = speak(tmp_path, "HELO here", "MAIL FROM:<>", "RCPT TO:<bob>", "DATA", "half")
    assert from_pipe[2][-1].startswith("354 ")
    assert got == []


@system
@pytest.mark.parametrize(("status", "code"), [("4.3.1", "451"), ("5.3.4", "554")])
def test_smtp_refusals(tmp_path, status: str, code: str) -> None:
    refusal = Refused(RefusedParameters(status, "because"))
    from_pipe, _, _ = speak(
        tmp_path, "HELO here", "MAIL FROM:<>", "RCPT TO:<bob>", "DATA", ".", "QUIT", at="Commit", answer=refusal
    )
    assert from_pipe[2][-2:] == [f"{code} {status} Error: because", "221 2.0.0 Bye"]
