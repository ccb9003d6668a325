"""SIGKILL and SIGSTOP of each role on a real systemd, under load: nothing is lost, and nobody is needed.

The ledger's rules: every message that was acknowledged, by 250 or by sendmail's exit status, arrives whole, or comes
back; only kills of those who deliver or record it may have it arrive twice.
"""

import json
import re
import subprocess
from contextlib import contextmanager

import pytest
from ledger import body_digest
from machine.host import MailHost
from machine.traffic import sink, traffic

ROLES = (
    "anvil", "bounce", "cleanup", "discard", "error", "local", "pickup", "postdrop", "qmgr", "resolver", "rewrite",
    "showq", "smtp", "smtpd",
)  # fmt: skip
# A kill of these between a delivery and its record makes another delivery; the number of deliveries under way.
REPEATERS = {"local": 20, "pickup": 1, "qmgr": 60, "smtp": 20}
KILLS = 1
SETTINGS = {
    "myhostname": "mail.here.example",
    "local_recipient_maps": "",
    # anvil counts all of them
    "smtpd_client_event_limit_exceptions": "",
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "2s",
    "queue_run_delay": "1s",
    "transport_retry_time": "1s",
    "transport_maps": "inline:{{error.example=error:5.7.1 no}, discard.example=discard:}",
}
RECIPIENTS = ("alice@mail.here.example", "sink@example.net", "x@discard.example")
SUBMIT = """
import json, subprocess, sys, threading
over, acknowledged = threading.Event(), []
threading.Thread(target=lambda: (sys.stdin.read(), over.set())).start()
count = 0
while not over.is_set():
    count += 1
    key = f"sendmail-{count}"
    text = f"Subject: {key}\\nX-Ledger: {key}\\n\\nbody of {key}\\n"
    recipient = "alice" if count % 2 else "x@error.example"
    if not subprocess.run(["sendmail", "-i", recipient], input=text, text=True, stderr=subprocess.DEVNULL).returncode:
        acknowledged.append(key)
    subprocess.run(["mailq"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if count == 2:
        print("ready", flush=True)
print(json.dumps([count, acknowledged]))
"""


@pytest.fixture(scope="module")
def host(installed, network):
    settings = SETTINGS | {"relayhost": f"[{network.gateway}]", "mynetworks": f"127.0.0.0/8 {network.gateway}/32"}
    with MailHost(installed, "here", network, **settings) as host:
        yield host


@contextmanager
def submissions(host, ledger):
    """A user who submits one message after another, every other of which comes back, and looks at the queue."""
    words = ["runuser", "-u", "bob", "--", "python3", "-c", SUBMIT]
    with host.popen(words, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield
        made, keys = json.loads(process.communicate(timeout=60)[0])
    for count in range(1, made + 1):
        key = f"sendmail-{count}"
        ledger.digests[key] = body_digest(f"\n\nbody of {key}\n".encode())
    ledger.acknowledged.update(keys)


@contextmanager
def everything(host, network):
    """Mail of all kinds as long as the context lasts; at its end the ledger has what became of it."""
    cursor, before = host.cursor(), {*maildir(host, "alice"), *maildir(host, "bob")}
    with sink(network) as outside:
        with traffic(network, host.address, *RECIPIENTS) as sent, submissions(host, sent.ledger):
            yield sent
        host.wait_empty(120)
    ledger = sent.ledger
    for key, digest in outside:
        ledger.arrived[key].append((digest, ("outside",)))
    for path in set(maildir(host, "alice")) - before:
        ledger.receive(path.read_bytes(), ["alice"])
    for path in set(maildir(host, "bob")) - before:
        key = re.search(r"\nX-Ledger: (.*)\n", path.read_text())[1]
        # A second notice is no second message.
        ledger.arrived[key] = [(ledger.digests.get(key), ("returned",))]
    # What was discarded cannot be looked at; its number stands in the journal.
    entries = host.journal(f"--after-cursor={cursor}", "PYFIX_RECIPIENT=x@discard.example", "PYFIX_STATUS=sent")
    discarded = {key for key in ledger.acknowledged if key.startswith("m-") and int(key.split("-")[1]) % 3 == 2}
    assert len({entry["PYFIX_QUEUE_ID"] for entry in entries}) >= len(discarded) > 0
    ledger.acknowledged -= discarded


def maildir(host, user="alice"):
    return list((host.root / f"home/{user}/Maildir/new").glob("*"))


def wait_for_deliveries(host):
    """Mail is on its way, and arrives."""
    before = len(maildir(host))
    host.wait_until(lambda: len(maildir(host)) > before + 10, "deliveries")


@pytest.mark.parametrize("role", ROLES)
def test_kills_lose_nothing(host, network, role):
    unit, cursor = f"pyfix-{role}.service", host.cursor()
    with everything(host, network) as sent:
        for _ in range(KILLS):
            wait_for_deliveries(host)
            pid = host.wait_until(lambda: host.main_pid(unit), f"a running {role}")
            host.kill(unit)
            host.wait_until(lambda pid=pid: host.main_pid(unit) not in {0, pid}, f"another {role}")
        wait_for_deliveries(host)
    ledger = sent.ledger
    assert sent.refused == []
    assert (ledger.missing(), ledger.damaged()) == (set(), set())
    assert ledger.duplicates() <= KILLS * REPEATERS.get(role, 0)
    places = {place for found in ledger.arrived.values() for _, (place,) in found}
    assert places == {"alice", "outside", "returned"}
    assert host.run("systemctl list-units --no-legend --failed 'pyfix*'").stdout == ""
    assert host.run("systemctl is-active pyfix").stdout == "active\n"
    assert [e for e in host.journal(f"--after-cursor={cursor}", "_SYSTEMD_SLICE=pyfix.slice") if traceback(e)] == []


def traceback(entry):
    return "Traceback" in entry["MESSAGE"]


# What a client of the SMTP server waits for; all other work goes on behind it.
WAITED_FOR = {"cleanup", "resolver", "rewrite", "smtpd"}
CLIENT = """
import smtplib, sys
server = smtplib.SMTP(sys.argv[1], local_hostname="client.example.com", timeout=100)
print("greeted", flush=True)
server.sendmail(sys.argv[2], sys.argv[3], "Subject: frozen\\n\\nbody\\n")
print("accepted", flush=True)
"""


@pytest.mark.parametrize("role", ROLES)
def test_a_frozen_role_is_waited_for(host, network, role):
    """A message is accepted as long as nobody is frozen whom that needs, and is delivered when all go on."""
    unit = f"pyfix-{role}.service"
    # smtpd has kept no name of a client
    host.run(f"systemctl restart pyfix-smtpd; systemctl start {unit}")
    before = len(maildir(host))
    host.kill(unit, "STOP")
    # smtpd has not asked for such a pair of addresses before
    addresses = f"{role}@example.com", "alice@mail.here.example"
    words = ["ip", "netns", "exec", network.name, "python3", "-c", CLIENT, host.address, *addresses]
    with subprocess.Popen(words, stdout=-1, text=True) as client:
        if role in WAITED_FOR:
            host.wait_until(lambda: connections(host), "a connection")
            assert client.poll() is None
            host.kill(unit, "CONT")
        assert client.stdout.read() == "greeted\naccepted\n"
    if role in {"local", "qmgr"}:
        assert len(host.queue()) == 1
    host.kill(unit, "CONT")
    host.wait_until(lambda: len(maildir(host)) > before, "the message")
    host.wait_empty()


def connections(host):
    return host.run("ss --no-header --tcp 'sport = :25'").stdout


def test_the_watchdog_ends_what_hangs(host, network):
    """All at once."""
    units = [f"pyfix-{role}.service" for role in ROLES]
    for unit in units:
        host.write(f"/etc/systemd/system/{unit}.d/watchdog.conf", "[Service]\nWatchdogSec=2s\n")
    host.run(f"systemctl daemon-reload && systemctl restart {' '.join(units)}")
    before, cursor = {unit: host.main_pid(unit) for unit in units}, host.cursor()
    assert all(before.values())
    host.kill(" ".join(units), "STOP")
    host.wait_until(lambda: all(host.main_pid(unit) not in {0, before[unit]} for unit in units), "other processes")
    ended = {entry["UNIT"] for entry in host.journal(f"--after-cursor={cursor}", "UNIT_RESULT=watchdog")}
    assert ended == set(units)
    with everything(host, network) as sent:
        wait_for_deliveries(host)
    assert (sent.ledger.missing(), sent.ledger.damaged(), sent.ledger.duplicates()) == (set(), set(), 0)
    assert host.run("systemctl list-units --no-legend --failed 'pyfix*'").stdout == ""
