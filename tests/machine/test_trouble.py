"""What is wrong with a machine is said once, clearly, where an administrator looks; and nothing storms meanwhile."""

import pytest

STARTING = "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5"
"""systemd's line on a unit's start."""

MOST_STARTS = 12
"""Of one unit, while 20 clients call: systemd pauses a socket after 5, and restarts come later and later."""

KNOCK = """
import smtplib, sys, threading

def send(number):
    try:
        with smtplib.SMTP("127.0.0.1", 25, local_hostname="client.example.com", timeout=float(sys.argv[2])) as server:
            server.sendmail("x@example.com", "bob@localhost", f"Subject: {sys.argv[3]}\\n\\nbody\\n")
        said.append("sent")
    except (OSError, smtplib.SMTPException) as error:
        said.append(repr(error))

said = []
threads = [threading.Thread(target=send, args=(number,)) for number in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("\\n".join(said))
"""

LISTEN = """
import socket, sys
sock = socket.create_server(("127.0.0.1", 25))
print("listening", flush=True)
sys.stdin.read()
"""


def knock(machine, count, timeout, subject="knock"):
    return machine.python(KNOCK, str(count), str(timeout), subject).stdout.splitlines()


def send_one(machine):
    """A message from a client to a mailbox; all roles that this needs run then."""
    assert knock(machine, 1, 60) == ["sent"]
    machine.wait_until(lambda: "is empty" in machine.run("mailq").stdout, "the delivery")


def status(machine, unit="pyfix"):
    return machine.run(f"systemctl status --full {unit}", check=False).stdout


def cursor(machine):
    return machine.journal("-n", "1")[0]["__CURSOR"]


def most_starts(machine, since):
    """How often the unit that started most often did."""
    units = [entry["UNIT"] for entry in machine.journal(f"--after-cursor={since}", STARTING, "_PID=1")]
    return max([units.count(unit) for unit in units if unit != "pyfix.service"], default=0)


def processes(machine):
    """The main process of each role that runs."""
    return set(
        machine.run("pgrep --full --parent 1 '^/usr/bin/python3 .*/usr/libexec/pyfix/'", check=False).stdout.split()
    )


@pytest.fixture(autouse=True)
def whole(machine):
    """Each test begins with a machine that works, and no role running."""
    machine.run("systemctl stop pyfix pyfix-check; systemctl reset-failed; systemctl start pyfix")


@pytest.fixture
def main_cf(machine):
    """Writes a broken main.cf; what was there comes back."""
    before = (machine.root / "etc/pyfix/main.cf").read_bytes()

    def write(lines):
        machine.write("/etc/pyfix/main.cf", before.decode() + lines)
        return before.count(b"\n") + 1

    yield write
    machine.write("/etc/pyfix/main.cf", before.decode())


MISTAKES = {
    "smtpd_timeout = soon": "line {}: parameter smtpd_timeout: bad time",
    "what is this": "line {}: ",
    "mynetworks = 10.0.0.1/8": "line {}: parameter mynetworks: ",
    "smtpd_recipient_restrictions = permit_all, reject": "line {}: parameter smtpd_recipient_restrictions: ",
    "myorigin = /etc/nowhere": "parameter myorigin: ",
}


def test_a_broken_main_cf_stops_nothing(machine, main_cf):
    """Neither a reload nor a restart does, and both say why."""
    send_one(machine)
    before = processes(machine)
    for verb in ("reload", "restart"):
        for mistake, text in MISTAKES.items():
            problem = "/etc/pyfix/main.cf, " * text.startswith("line") + text.format(main_cf(f"{mistake}\n"))
            since = ("_SYSTEMD_UNIT=pyfix.service", "-p", "err", f"--after-cursor={cursor(machine)}")
            assert machine.run(f"systemctl {verb} pyfix", check=False).returncode == 1
            machine.wait_until(lambda since=since: machine.journal(*since), "the reason in the journal")
            assert [problem in entry["MESSAGE"] for entry in machine.journal(*since)].count(True) == 1
            assert problem in status(machine)
            if verb == "reload" and text.startswith("line"):
                told = f"Reload failed: {problem}"
                machine.wait_until(lambda told=told: told in role_status(machine, "smtpd"), "the role's status")
    assert before <= processes(machine)
    assert "Active: failed" in status(machine)
    send_one(machine)


def role_status(machine, role):
    return machine.run(f"systemctl show -P StatusText pyfix-{role}").stdout


def test_a_stop_after_a_restart_that_failed_stops_everything(machine, main_cf):
    send_one(machine)
    main_cf("smtpd_timeout = soon\n")
    assert machine.run("systemctl restart pyfix", check=False).returncode == 1
    assert processes(machine)
    machine.run("systemctl stop pyfix")
    assert processes(machine) == set()
    assert knock(machine, 1, 5) == ["ConnectionRefusedError(111, 'Connection refused')"]


NO_MODULE = "the Python module msgspec is missing"
TROUBLES = {
    "no user": (
        "sed -i /^pyfix:/d /etc/passwd /etc/shadow",
        'the user pyfix (mail_owner) is missing: "systemd-sysusers pyfix.conf"',
        "systemd-sysusers pyfix.conf && systemd-tmpfiles --create pyfix.conf",
    ),
    "no group": (
        "sed -i /^pyfix:/d /etc/group /etc/gshadow",
        'the group pyfix is missing: "systemd-sysusers pyfix.conf"',
        "systemd-sysusers pyfix.conf && systemd-tmpfiles --create pyfix.conf && systemctl stop pyfix",
    ),
    "no directory of a socket": (
        "rm -r /run/pyfix/cleanup",
        "/run/pyfix/cleanup is missing: ",
        "systemd-tmpfiles --create pyfix.conf && systemctl stop pyfix",
    ),
    "no directories of sockets": (
        "rm -r /run/pyfix",
        "/run/pyfix is missing: ",
        "systemd-tmpfiles --create pyfix.conf && systemctl stop pyfix",
    ),
    "no queue directory": (
        "mv /var/spool/pyfix /var/spool/elsewhere",
        "queue_directory /var/spool/pyfix does not exist: ",
        "mv /var/spool/elsewhere /var/spool/pyfix",
    ),
    "somebody else's queue directory": (
        "chown root: /var/spool/pyfix/incoming",
        "/var/spool/pyfix/incoming belongs to user 0, not to ",
        "systemd-tmpfiles --create pyfix.conf",
    ),
    "no root directory": (
        "find /usr/lib/pyfix/root/smtpd -xdev -delete",
        "/usr/lib/pyfix/root/smtpd is missing: ",
        "install -d /usr/lib/pyfix/root/smtpd",
    ),
    "a main.cf that roles cannot read": (
        "chmod 600 /etc/pyfix/main.cf",
        '"chmod 644 /etc/pyfix/main.cf"',
        "chmod 644 /etc/pyfix/main.cf",
    ),
    "a Python module less": (
        "mv /usr/lib/python3/dist-packages/msgspec /root/",
        NO_MODULE,
        "mv /root/msgspec /usr/lib/python3/dist-packages/",
    ),
}  # fmt: skip


@pytest.fixture
def mending(machine):
    """Commands that undo what a test did, should it fail."""
    commands = []
    yield commands
    machine.run(" && ".join(commands) or "true", check=False)


@pytest.mark.parametrize(("damage", "text", "mend"), TROUBLES.values(), ids=TROUBLES)
def test_what_is_missing_is_named_and_nothing_storms(machine, mending, damage, text, mend):
    since = cursor(machine)
    mending.append(mend)
    # A diagnosis of the test before this one would put the next one off for a minute.
    machine.run(f"systemctl stop pyfix-check && {damage}")
    assert "sent" not in knock(machine, 20, 4)
    machine.wait_until(lambda: text in status(machine), "the reason in pyfix's status", timeout=20)
    assert most_starts(machine, since) <= MOST_STARTS
    assert [text in line for line in status(machine).splitlines()].count(True) == 1
    check = machine.run("pyfix check", check=False)
    assert (check.returncode, text in check.stderr) == (1 if text != NO_MODULE else 78, True)
    machine.run("systemctl restart pyfix", check=False)
    machine.wait_until(lambda: text in status(machine), "the reason in pyfix's status", timeout=20)

    machine.run(f"{mending.pop()} && systemctl restart pyfix")
    send_one(machine)


def test_a_port_that_another_program_has_keeps_local_mail_going(machine, mending):
    machine.run("systemctl stop pyfix")
    text = "pyfix-smtpd.socket does not listen on 127.0.0.1:25 and [::1]:25: another program does"
    with machine.popen(["/usr/bin/python3", "-c", LISTEN], stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"listening\n"
        machine.run("systemctl start pyfix")
        machine.wait_until(lambda: text in status(machine), "the reason in pyfix's status", timeout=20)
        check = machine.run("pyfix check", check=False)
        assert (check.returncode, text in check.stderr) == (1, True)
        machine.run("sendmail alice", input="Subject: local\n\nbody\n")
        machine.wait_until((machine.root / "var/mail/alice").exists, "local mail")
        other.stdin.close()
    machine.run("systemctl restart pyfix")
    send_one(machine)


def test_a_full_disk_at_the_start_is_told_and_mail_waits_outside(machine, mending):
    mending.append("umount --lazy /var/spool/pyfix; systemctl restart pyfix")
    machine.run("mount -t tmpfs -o size=1m,mode=755 tmpfs /var/spool/pyfix && systemd-tmpfiles --create pyfix.conf")
    machine.run("systemctl restart pyfix")
    text = "bytes are free, and no mail is taken below 15360000 (queue_minfree, message_size_limit)"
    machine.wait_until(lambda: text in status(machine), "the reason in pyfix's status", timeout=20)
    check = machine.run("pyfix check", check=False)
    assert (check.returncode, text in check.stderr) == (75, True)
    (said,) = knock(machine, 1, 60)
    assert "452, b'4.3.1 Insufficient system storage'" in said
    machine.run(mending.pop())
    send_one(machine)


def test_a_file_that_pickup_leaves_alone_makes_no_loop_of_starts(machine, mending):
    dropin = "/etc/systemd/system/pyfix-pickup.service.d"
    machine.write(f"{dropin}/idle.conf", "[Service]\nExecReload=\nExecStart=\nExecStart=/usr/bin/true\nType=oneshot\n")
    mending.append(f"rm -r {dropin}; systemctl daemon-reload; systemctl restart pyfix")
    machine.run("systemctl daemon-reload")
    since = cursor(machine)
    machine.run("sendmail alice", input="Subject: left alone\n\nbody\n")
    machine.wait_until(
        lambda: "trigger-limit-hit" in machine.run("systemctl show -P Result pyfix-pickup.path").stdout, "the limit"
    )
    assert most_starts(machine, since) <= 6  # five by the path, and one by postdrop's Wants=
    machine.wait_until(
        lambda: "pyfix-pickup.path failed (trigger-limit-hit): " in status(machine), "the reason", timeout=20
    )
    machine.run(mending.pop())
    box = machine.root / "var/mail/alice"
    machine.wait_until(lambda: box.exists() and "Subject: left alone" in box.read_text(), "the mail")
