"""The journal of a mail host: what it tells of a message, to whom, and what becomes of mail when it takes no lines."""

import re

import pytest
from machine.host import MailHost
from machine.traffic import traffic

from pyfix.service import events
from pyfix.system import journal


@pytest.fixture(scope="module")
def host(installed, network):
    neighbours = f"127.0.0.0/8 {network.gateway}/32"
    with MailHost(installed, "mail", network, mynetworks=neighbours) as host:
        host.run("useradd --create-home --groups systemd-journal reader")
        yield host


@pytest.fixture
def message(host):
    """A message that came by SMTP for a user here: its queue ID."""
    return send(host, "bob@localhost")


SEND = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", local_hostname="client.example.com") as server:
    server.mail("x@example.com")
    server.rcpt(sys.argv[1])
    print(server.data("Subject: a story\\n\\nbody\\n")[1].decode())
"""

REFUSED = """
import smtplib
with smtplib.SMTP("127.0.0.1", local_hostname="client.example.com") as server:
    server.mail("r@example.com")
    server.rcpt("nobody-here@localhost")
"""

BURDEN = """
import socket
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.connect("/run/systemd/journal/socket")
for number in range(100_000):
    sock.send(b"MESSAGE=burden\\nPYFIX_QUEUE_ID=B%d\\nSYSLOG_IDENTIFIER=burden\\n" % number)
"""

MEASURED = """
import os, subprocess, sys
subprocess.run(["pyfix", "trace", "--lines", sys.argv[1]], check=True)
print(sum(os.times()[2:4]))
"""


FOLLOWED = """
import subprocess, sys, time
sys.path.insert(0, "/usr/lib/pyfix")
from pyfix.service.gauges import MESSAGE_IDS, kind_of
from pyfix.system.journal_reader import JournalTail
tail = JournalTail(MESSAGE_IDS)
tail.recent(0, 5)
assert tail.read(1000) == []
for rotate in (False, True):
    if rotate:
        subprocess.run(["journalctl", "--rotate"], check=True)
    subprocess.run(["sendmail", "bob@localhost"], input=b"Subject: followed", check=True)
    found, deadline = [], time.monotonic() + 30
    while "delivered" not in found and time.monotonic() < deadline:
        found += [kind_of(entry.message) for entry in tail.read(1000)]
        time.sleep(0.05)
    print(*found)
tail.close()
"""


def send(host, recipient):
    """Sends a message by SMTP from the host itself; its queue ID."""
    queue_id = host.python(SEND, recipient).stdout.split()[-1]
    host.whole_story(queue_id)
    return queue_id


def trace(host, subject, user="root"):
    done = host.run(["runuser", "-u", user, "--", "pyfix", "trace", "--lines", subject], check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


def explained(host, *matches):
    """journalctl -x: the lines and the catalog's text."""
    out = host.run(["journalctl", "--no-pager", "-x", *matches]).stdout
    return out.replace("░░ ", "").replace("░░", "")


def is_message_id(value):
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value) is not None


def test_a_message_is_seen_whole_with_its_fields(host, message):
    entries = host.journal(f"PYFIX_QUEUE_ID={message}")
    delays = r"delay=[\d.]+, delays=([\d.]+/){3}[\d.]+"
    sender = {"PYFIX_SENDER": "x@example.com"}
    client = {"PYFIX_CLIENT_NAME": "localhost", "PYFIX_CLIENT_ADDRESS": "127.0.0.1"}
    delivery = {"PYFIX_RECIPIENT": "bob@localhost", "PYFIX_RELAY": "local", "PYFIX_STATUS": "sent",
                "PYFIX_DSN": "2.0.0"}  # fmt: skip
    expected = [
        ("smtpd", events.RECEIVED, r"client=localhost\[127\.0\.0\.1\]", client),
        ("cleanup", events.IDENTIFIED, "message-id=<.+@mail.localdomain>", {}),
        ("qmgr", events.ACTIVE, r"from=<x@example\.com>, size=\d+, nrcpt=1 \(queue active\)", sender),
        ("local", events.DELIVERED,
         rf"to=<bob@localhost>, relay=local, {delays}, dsn=2\.0\.0, status=sent \(delivered to maildir\)",
         sender | delivery),
        ("qmgr", events.REMOVED, "removed", {}),
    ]  # fmt: skip
    assert len(entries) == len(expected)
    for entry, (role, message_id, pattern, fields) in zip(entries, expected, strict=True):
        assert re.fullmatch(f"{message}: {pattern}", entry["MESSAGE"])
        about = {name: value for name, value in entry.items() if name.startswith("PYFIX_")}
        usec = about.pop("PYFIX_DELAY_USEC", "0")
        assert about == fields | {"PYFIX_QUEUE_ID": message}
        assert (int(usec) > 0) == (role == "local")
        assert (entry["SYSLOG_IDENTIFIER"], entry["MESSAGE_ID"]) == (f"pyfix/{role}", message_id)
        assert (entry["PRIORITY"], entry["SYSLOG_FACILITY"]) == ("6", "2")
        assert entry["_SYSTEMD_UNIT"] == f"pyfix-{role}.service"
    times = [int(entry["__REALTIME_TIMESTAMP"]) for entry in entries]
    assert times == sorted(times)


def test_a_refusal_has_its_client_and_addresses(host):
    host.python(REFUSED)
    [entry] = host.journal("PYFIX_SENDER=r@example.com")
    assert (entry["PYFIX_QUEUE_ID"], entry["MESSAGE_ID"]) == ("NOQUEUE", events.REJECTED)
    assert (entry["PYFIX_RECIPIENT"], entry["PYFIX_DSN"]) == ("nobody-here@localhost", "5.1.1")
    assert (entry["PYFIX_CLIENT_NAME"], entry["PYFIX_CLIENT_ADDRESS"]) == ("localhost", "127.0.0.1")
    status, lines, _ = trace(host, "r@example.com")
    assert (status, len(lines)) == (0, 1)
    assert entry["MESSAGE"] in lines[0]


def test_the_catalog_is_there_and_explains_with_the_fields_filled_in(host, message):
    listed = host.run("journalctl --list-catalog").stdout
    ids = {value for module in (events, journal) for value in vars(module).values() if is_message_id(value)}
    assert ids == set(re.findall(r"^([0-9a-f]{32}) pyfix: ", listed, re.MULTILINE))
    text = explained(host, f"PYFIX_QUEUE_ID={message}")
    for words in (
        f"Subject: Message {message} was delivered to <bob@localhost>\n",
        "Defined-By: pyfix\n",
        "Documentation: man:qmgr(8pyfix)\n",
        "The SMTP client localhost, IP address 127.0.0.1, named a\n",
        "local took the message from <x@example.com> for this recipient",
        f"What became of it: pyfix trace {message}\n",
    ):
        assert words in text
    assert "@PYFIX_" not in text


def test_a_broken_configuration_is_found_by_its_kind_and_explained(host):
    assert host.journal(f"MESSAGE_ID={events.CONFIGURATION_KEPT}") == []
    send(host, "bob@localhost")
    host.set(smtpd_timeout="soon")
    host.run("systemctl reload pyfix", check=False)
    kept = host.wait_until(lambda: host.journal(f"MESSAGE_ID={events.CONFIGURATION_KEPT}"), "a line")
    host.set(smtpd_timeout="300s")
    host.run("systemctl reload pyfix")
    assert "parameter smtpd_timeout: " in kept[0]["PYFIX_REASON"]
    text = explained(host, f"MESSAGE_ID={events.CONFIGURATION_KEPT}")
    assert "Subject: A changed configuration was not taken over\n" in text
    assert f"\n{kept[0]['PYFIX_REASON']}\n" in text


def test_who_may_read_the_journal_is_told_the_story_and_others_why_not(host, message):
    expected = [line.partition(": ")[2] for line in host.story(message)]
    for user in ("root", "reader"):
        status, lines, complaints = trace(host, message, user)
        assert (status, complaints) == (0, "")
        assert [line.partition(f"{message}: ")[2] for line in lines] == expected
        assert all(re.match(r"\w{3} [ \d]\d [\d:]{8}\.\d{3} +(\+[\d.]+s)?  pyfix/\w+ ", line) for line in lines)
    status, lines, complaints = trace(host, message, "alice")
    assert (status, lines) == (1, [])
    assert complaints == (
        f"pyfix: no trace of {message} in the journal\n"
        "pyfix: hint: reading the mail system's journal takes root or a member of the group systemd-journal or adm\n"
    )


def test_an_unknown_message_has_no_trace(host):
    for subject in ("4dVBkT0Qz8z1", "nobody@example.net"):
        assert trace(host, subject) == (1, [], f"pyfix: no trace of {subject} in the journal\n")


def test_a_trace_goes_on_with_the_notice_and_starts_from_an_address_too(host):
    host.sendmail("alice", "nobody-there", "Subject: bounces\n\nbody\n")
    host.wait_until(lambda: any("Undelivered Mail" in text for text in host.mailbox("alice")), "a notice")
    host.wait_empty()
    [bounced] = host.journal(f"MESSAGE_ID={events.BOUNCED}", "PYFIX_RECIPIENT=nobody-there@mail")
    [notice] = host.journal(f"PYFIX_QUEUE_ID={bounced['PYFIX_QUEUE_ID']}", f"MESSAGE_ID={events.NOTICE}")
    _, lines, _ = trace(host, bounced["PYFIX_QUEUE_ID"])
    assert any(f"{notice['PYFIX_RELATED_ID']}: to=<alice@mail>" in line for line in lines)
    assert trace(host, notice["PYFIX_RELATED_ID"])[1] == lines
    # As it was given, as it was rewritten, and one story for two messages.
    for address in ("nobody-there@mail", "alice@mail"):
        assert trace(host, address)[1] == lines


def test_top_counts_in_the_journal_and_knows_the_units(host):
    send(host, "bob@localhost")
    shown = host.run("pyfix top --once").stdout
    assert re.search(
        r"^per minute  received [1-9]\d*  delivered [1-9]\d*  deferred 0  bounced \d+$", shown, re.MULTILINE
    )
    assert re.search(
        r"^messages    maildrop 0  incoming 0  active \d  deferred 0  hold 0  corrupt 0$", shown, re.MULTILINE
    )
    assert re.search(r"^pyfix-qmgr +1 +[1-9]\d*\.\d MiB +- +\d+\.\d s$", shown, re.MULTILINE)
    denied = host.run(["runuser", "-u", "alice", "--", "pyfix", "top"]).stdout
    assert "the log cannot be read" in denied
    assert "only root and the queue's owner may look at the queue" in denied


def test_what_comes_into_the_journal_is_followed_and_also_into_its_next_file(host):
    assert host.python(FOLLOWED).stdout.splitlines() == ["received delivered"] * 2


def test_a_big_journal_costs_a_trace_nothing(host, message):
    host.write("/etc/systemd/journald.conf.d/unlimited.conf", "[Journal]\nRateLimitIntervalSec=0\n")
    host.run("systemctl restart systemd-journald")
    host.python(BURDEN)
    host.wait_until(lambda: host.journal("PYFIX_QUEUE_ID=B99999"), "the last of them")
    *lines, seconds = host.python(MEASURED, message).stdout.splitlines()
    assert len(lines) == 5
    print(f"trace of a message: {seconds} s of CPU.", host.run("journalctl --disk-usage").stdout.strip())
    assert float(seconds) < 3


def through(host, network, disturb):
    """Traffic during which something happens to the journal; none of it may be lost. The cursor before."""
    for path in (host.root / "home/alice/Maildir").glob("new/*"):
        path.unlink()
    cursor = host.cursor()
    with traffic(network, host.address, "alice@mail.localdomain") as sent:
        disturb(lambda: len(host.mailbox("alice")))
    host.wait_empty(120)
    for text in host.mailbox("alice"):
        if "\nX-Ledger: " in text:
            sent.ledger.receive(text.encode(), ["alice"])
    assert sent.refused == []
    assert sent.acknowledged > 100
    assert (sent.ledger.missing(), sent.ledger.damaged(), sent.ledger.duplicates()) == (set(), set(), 0)
    return cursor


def lost_lines(host, cursor):
    entries = host.journal(f"--after-cursor={cursor}", f"MESSAGE_ID={journal.LOST_LINES}")
    return sum(int(entry["PYFIX_LOST_LINES"]) for entry in entries)


def test_a_restart_of_journald_under_load_costs_neither_mail_nor_lines(host, network):
    def disturb(count):
        for _ in range(3):
            before = count()
            host.run("systemctl restart systemd-journald")
            host.wait_until(lambda before=before: count() > before + 50, "mail after the restart")

    cursor = through(host, network, disturb)
    ends = host.journal(f"--after-cursor={cursor}", f"MESSAGE_ID={events.REMOVED}")
    assert (lost_lines(host, cursor), len(ends)) == (0, len(host.mailbox("alice")))


def test_mail_goes_on_while_journald_stands_still(host, network):
    journald = host.main_pid("systemd-journald")

    def disturb(count):
        host.wait_until(lambda: count() > 50, "mail")
        host.run(["kill", "-STOP", str(journald)])
        before = count()
        # More lines than journald's socket holds
        host.wait_until(lambda: count() > before + 200, "mail without a journal")
        host.run(["kill", "-CONT", str(journald)])

    cursor = through(host, network, disturb)
    assert host.main_pid("systemd-journald") == journald
    assert lost_lines(host, cursor) > 30
    assert "log lines were lost\n" in explained(host, f"--after-cursor={cursor}", f"MESSAGE_ID={journal.LOST_LINES}")
    queue_id = send(host, "bob@localhost")
    assert len(host.story(queue_id)) == 5
