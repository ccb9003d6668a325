"""A queue that goes from Postfix to pyfix and back, by the commands of docs/migration.md."""

import os
import re
import subprocess
import threading

import pytest
from stories.test_delivery import next_host
from system_under_test import ROOT, SystemUnderTest, free_port

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix runs as root only"),
]

# What each mail system does with a recipient, by domain; all others have to wait.
ROUTES = "inline:{{ {{done.example=discard:}} {{now.example=smtp:[127.0.0.1]:{port}}} }}"
RETRY = "retry:4.3.0 test deferral"


def migrate(direction, replaced):
    """Runs the commands of that section, but for those that start and stop services."""
    text = (ROOT / "docs/migration.md").read_text()
    section = re.search(rf"## {direction}\n.*?```sh\n(.*?)```", text, re.DOTALL)[1]
    lines = [line for line in section.splitlines() if not re.match("systemctl|postfix|postsuper", line)]
    assert any(line.startswith("cp ") for line in lines)
    assert any(line.startswith("chown ") for line in lines)
    commands = "\n".join(lines)
    for old, new in replaced.items():
        commands = commands.replace(old, new)
    subprocess.run(["sh", "-e", "-c", commands], check=True)


class Sink:
    """The next host: who got what."""

    def __init__(self):
        self.port = free_port()
        self.lock = threading.Lock()
        self.got = []

    def take(self, content, recipients):
        with self.lock:
            self.got += [(recipient, content.replace(b"\r\n", b"\n").partition(b"\n\n")[2]) for recipient in recipients]

    def recipients(self):
        with self.lock:
            return sorted(recipient for recipient, _ in self.got)


@pytest.fixture
def sink():
    sink = Sink()
    with next_host(sink.port, sink.take):
        yield sink


def set_parameters(postfix, **parameters):
    main_cf = postfix.conf / "main.cf"
    lines = [line for line in main_cf.read_text().splitlines() if line.partition(" =")[0] not in parameters]
    main_cf.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in parameters.items()), ""]))
    # Postfix waits for a configuration file that may still be under an editor.
    os.utime(main_cf, (1_000_000_000, 1_000_000_000))


def fill(postfix):
    """Messages with short queue IDs, then with long ones: deferred, on hold, some recipients done, and submitted."""
    for form in ("short", "long"):
        set_parameters(postfix, enable_long_queue_ids="yes" if form == "long" else "no")
        send = ["sendmail", "-i", "-f", f"{form}@sender.example"]
        body = f"Subject: {form}\n\n{form} body\n.\nend".encode()
        postfix.run(*send, f"{form}@done.example", f"{form}@now.example", f"{form}@later.example", data=body)
        postfix.run(*send, "-N", "failure", "-R", "hdrs", "-V", "env+x", f"{form}.dsn@later.example", data=body)
        postfix.run("sendmail", "-i", "-f", "<>", f"{form}.held@later.example", data=body)
        before = len(postfix.files("deferred"))
        postfix.log.write_text("")
        with postfix.started():
            postfix.wait_for(
                lambda wanted=before + 3: (
                    not postfix.files("maildrop", "incoming", "active") and len(postfix.files("deferred")) == wanted
                )
            )
    set_parameters(postfix, enable_long_queue_ids="yes")
    held = [line.split()[0] for line in listing(postfix.run("postqueue", "-p").decode()) if "MAILER-DAEMON" in line]
    for queue_id in held:
        postfix.run("postsuper", "-h", queue_id)
    postfix.run("sendmail", "-i", "-f", "s@sender.example", "submitted@now.example", data=b"Subject: s\n\nsubmitted\n")
    # as a Postfix leaves it that was killed
    moved = next(path for path in postfix.files("deferred") if b"short.dsn" in path.read_bytes())
    moved.rename(postfix.spool / "active" / moved.name)
    os.utime(postfix.spool / "active" / moved.name)


def listing(text):
    """The messages of a listing, in the order of their queue IDs."""
    head, *messages = re.split(r"\n(?=[0-9A-Za-z]{6,}[*!#]? )", text.partition("\n--")[0])
    assert head.startswith("-"), text
    return sorted(message.rstrip() for message in messages)


def test_a_queue_goes_to_pyfix_and_back(postfix, public_directory, sink):
    routes = ROUTES.format(port=sink.port)
    set_parameters(postfix, transport_maps="inline:{ {done.example=discard:} }", default_transport=RETRY)
    fill(postfix)
    theirs = listing(postfix.run("postqueue", "-p").decode())
    assert len(theirs) == 7

    settings = f"transport_maps = {routes}\ndefault_transport = {RETRY}\nminimal_backoff_time = 300s\n"
    system = SystemUnderTest(public_directory / "pyfix", settings)
    (system.directory / "spool").mkdir()
    spools = {"/var/spool/postfix": str(postfix.spool), "/var/spool/pyfix": str(system.spool)}
    migrate("To pyfix", spools | {"pyfix:pyfix": "root:root"})
    assert listing(system.run("postqueue", "-p").stdout) == theirs
    for path in system.queue_files():
        queue_id = path.name
        shown = postfix.run("postcat", "-q", queue_id)
        assert system.run("postcat", "-q", queue_id, text=False).stdout == shown

    with system:
        # What was submitted and what was active is tried at once, the rest when its time has come.
        system.wait_until(lambda: sink.recipients() == ["submitted@now.example"], "the submission's delivery")
        system.wait_log(r"to=<short\.dsn@later\.example>.*status=deferred")
        assert system.run("postqueue", "-f").returncode == 0
        system.wait_until(lambda: len(sink.got) == 3, "two more deliveries")
        assert sink.recipients() == ["long@now.example", "short@now.example", "submitted@now.example"]
        assert {body for _, body in sink.got} == {b"short body\n.\nend\n", b"long body\n.\nend\n", b"submitted\n"}
        assert len(system.queue_ids("hold")) == 2
        recipients = ("own@done.example", "own@later.example")
        assert system.run("sendmail", "-i", "-f", "s@sender.example", *recipients, input="x").returncode == 0
        system.wait_until(lambda: len(system.queue_ids("deferred")) == 5, "five deferred messages")
        system.wait_until(lambda: not system.queue_ids("maildrop", "incoming", "active"), "an idle queue")
        ours = listing(system.run("postqueue", "-p").stdout)

    for path in postfix.files("maildrop", "incoming", "active", "deferred", "hold", "defer"):
        path.unlink()
    migrate("Back to Postfix", spools | {"postfix:": "daemon:"})
    assert listing(postfix.run("postqueue", "-p").decode()) == ours
    for path in postfix.files("deferred", "hold"):
        queue_id = path.name
        assert postfix.run("postcat", "-q", queue_id) == system.run("postcat", "-q", queue_id, text=False).stdout
    postfix.run("postsuper", "-s", "-p")
    assert [path.name for path in postfix.files("deferred") if len(path.name) < 13]
    set_parameters(postfix, default_transport=f"smtp:[127.0.0.1]:{sink.port}")
    postfix.log.write_text("")
    with postfix.started():
        postfix.run("postsuper", "-H", "ALL")
        postfix.run("postqueue", "-f")
        postfix.wait_for(lambda: not postfix.files("incoming", "active", "deferred", "hold"))
    delivered = sorted(recipient for recipient, _ in sink.got[3:])
    assert delivered == sorted(
        ["own@later.example"]
        + [f"{form}{name}@later.example" for form in ("long", "short") for name in ("", ".dsn", ".held")]
    )
    assert not postfix.files("bounce", "defer")
    assert not re.search("corrupt|bogus|malformed|unexpected", postfix.log_text())
