"""The package on a real system: what systemctl does with it, mail, upgrade, removal."""

import re
import stat
import subprocess
import time
from pathlib import Path

import pytest
from machine import package
from machine.machine import Machine
from machine.traffic import traffic

SEND = """
import smtplib, sys
server = smtplib.SMTP(local_hostname="client.example.com")
server.connect("127.0.0.1", 25)
server.sendmail("x@example.com", sys.argv[1], "Subject: " + sys.argv[2] + "\\n\\nbody\\n")
server.quit()
"""

GREETING = """
import socket
with socket.create_connection(("127.0.0.1", 25), timeout=30) as sock:
    print(sock.recv(200).decode())
"""


def running(machine):
    """The roles that run, with their process IDs."""
    found = machine.run("pgrep --full --list-full '^/usr/bin/python3 -I /usr/libexec/pyfix/'", check=False).stdout
    return {(int(line.split()[0]), line.split("/usr/libexec/pyfix/")[1].split()[0]) for line in found.splitlines()}


def listening(machine):
    out = machine.run("ss --listening --tcp --numeric --no-header 'sport = :25'").stdout
    return sorted(line.split()[3] for line in out.splitlines())


def mailbox(machine, user):
    return [path.read_text() for path in sorted((machine.root / f"home/{user}/Maildir/new").glob("*"))]


def story(machine, sender="x@example.com"):
    """The journal entries of a sender's newest message, once it is through."""

    def told():
        identifiers = [entry["PYFIX_QUEUE_ID"] for entry in machine.journal(f"PYFIX_SENDER={sender}")]
        entries = machine.journal(f"PYFIX_QUEUE_ID={identifiers[-1]}") if identifiers else []
        return entries if entries and entries[-1]["MESSAGE"].endswith(": removed") else None

    return machine.wait_until(told, f"the end of a message from {sender}")


@pytest.fixture(autouse=True)
def _started(machine):
    """No test inherits another's failure."""
    machine.run("systemctl reset-failed 'pyfix*'; systemctl start pyfix")


@pytest.fixture
def main_cf(machine):
    """Adds lines to main.cf for a test, and restores it."""
    before = machine.read("/etc/pyfix/main.cf")

    def add(*lines, reload=True):
        machine.write("/etc/pyfix/main.cf", before + "".join(f"{line}\n" for line in lines))
        if reload:
            machine.run("systemctl reload pyfix")

    yield add
    machine.write("/etc/pyfix/main.cf", before)
    machine.run("systemctl reload-or-restart pyfix")


@pytest.fixture
def maildirs(main_cf):
    """Delivery to ~/Maildir/."""
    main_cf("home_mailbox = Maildir/")


def test_an_installation_runs_and_listens_on_loopback(machine):
    assert machine.run("systemctl is-active pyfix").stdout == "active\n"
    assert machine.run("systemctl is-enabled pyfix pyfix-smtpd.socket").stdout == "enabled\nenabled\n"
    assert machine.run("systemctl --failed --no-legend").stdout == ""
    assert listening(machine) == ["127.0.0.1:25", "[::1]:25"]
    sockets = machine.run("systemctl list-units --no-legend --plain --state=active 'pyfix-*.socket'").stdout
    units = [unit for unit in (package.ROOT / "units").iterdir() if unit.suffix == ".socket"]
    assert len(sockets.splitlines()) == len(units)
    assert machine.run("pyfix check").stderr == ""
    assert machine.journal("-p", "warning", "_SYSTEMD_SLICE=pyfix.slice") == []


def test_main_cf_is_made_for_this_machine(machine):
    settings = machine.run("postconf -n").stdout.splitlines()
    assert {
        "inet_interfaces = loopback-only",
        "mydestination = $myhostname, mail, localhost.$mydomain, localhost",
        "myhostname = mail.localdomain",
        "mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128",
        "myorigin = mail",
    } <= set(settings)
    assert machine.read("/etc/mailname") == "mail\n"


def test_sendmail_delivers_to_a_mailbox(machine):
    machine.run("sendmail -f bob@example.com root", input="Subject: to root\n\nbody\n")
    story(machine, "bob@example.com")
    text = (machine.root / "var/mail/root").read_text()
    assert re.match(r"From bob@example\.com  \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\n", text)
    assert "\nX-Original-To: root\n" in text
    assert "\nSubject: to root\n" in text
    assert machine.run("mailq").stdout == "Mail queue is empty\n"


def test_smtp_delivers_to_a_maildir_and_the_journal_tells_the_story(machine, maildirs):
    machine.python(SEND, "bob@localhost", "by smtp")
    entries = story(machine)
    assert any("\nSubject: by smtp\n" in text for text in mailbox(machine, "bob"))
    queue_id = entries[0]["PYFIX_QUEUE_ID"]
    sent = r"status=sent \(delivered to maildir\)"
    delays = r"delay=[\d.]+, delays=([\d.]+/){3}[\d.]+"
    expected = [
        ("pyfix/smtpd", r"client=localhost\[127\.0\.0\.1\]"),
        ("pyfix/cleanup", r"message-id=<.+@mail\.localdomain>"),
        ("pyfix/qmgr", r"from=<x@example\.com>, size=\d+, nrcpt=1 \(queue active\)"),
        ("pyfix/local", rf"to=<bob@localhost>, relay=local, {delays}, dsn=2\.0\.0, {sent}"),
        ("pyfix/qmgr", "removed"),
    ]
    assert [entry["SYSLOG_IDENTIFIER"] for entry in entries] == [identifier for identifier, _ in expected]
    for entry, (_, pattern) in zip(entries, expected, strict=True):
        assert re.fullmatch(f"{queue_id}: {pattern}", entry["MESSAGE"])
        assert entry["_SYSTEMD_UNIT"] == f"pyfix-{entry['SYSLOG_IDENTIFIER'].removeprefix('pyfix/')}.service"
        assert entry["PRIORITY"] == "6"
    client, _, active, delivery, removed = entries
    assert (client["PYFIX_CLIENT_NAME"], client["PYFIX_CLIENT_ADDRESS"]) == ("localhost", "127.0.0.1")
    assert active["PYFIX_SENDER"] == "x@example.com"
    fields = ("PYFIX_RECIPIENT", "PYFIX_RELAY", "PYFIX_STATUS", "PYFIX_DSN")
    assert [delivery[field] for field in fields] == ["bob@localhost", "local", "sent", "2.0.0"]
    assert int(delivery["PYFIX_DELAY_USEC"]) < 60_000_000
    assert len({entry["MESSAGE_ID"] for entry in (client, active, delivery, removed)}) == 4
    assert delivery in machine.journal("-t", "pyfix/local", "PYFIX_STATUS=sent")


def test_an_unknown_user_is_refused_and_bounces(machine):
    done = machine.python(SEND, "nobody-here@localhost", "refused", check=False)
    assert "550, b'5.1.1 <nobody-here@localhost>: Recipient address rejected: User unknown in local" in done.stderr
    machine.run("sendmail -f alice nobody-here", input="Subject: bounces\n\nbody\n")
    box = machine.root / "var/mail/alice"
    machine.wait_until(lambda: box.exists() and "Undelivered Mail Returned to Sender" in box.read_text(), "a notice")


def test_what_is_no_submission_is_put_away(machine):
    """pickup renames it from one directory to another, and sees no others."""
    spool = machine.root / "var/spool/pyfix"
    machine.run("install -o pyfix -g pyfix -m 700 /etc/hostname /var/spool/pyfix/maildrop/0123456789A")
    machine.wait_until((spool / "corrupt/0123456789A").exists, "the file in corrupt/")
    assert machine.journal("-p", "err", "_SYSTEMD_UNIT=pyfix-pickup.service") == []
    pid = machine.main_pid("pyfix-pickup.service")
    seen = machine.run(
        f"setpriv --reuid pyfix --clear-groups ls /proc/{pid}/root/var/spool/pyfix/incoming", check=False
    )
    assert (seen.returncode != 0, "Permission denied" in seen.stderr) == (True, True)
    (spool / "corrupt/0123456789A").unlink()


def test_a_user_cannot_use_up_a_public_socket(machine):
    hoard = """
import socket
socks = [socket.socket(socket.AF_UNIX) for _ in range(70)]
for sock in socks:
    sock.settimeout(30)
    sock.connect("/run/pyfix/showq/io.pyfix.Showq")
print(sum(sock.recv(1) == b"" for sock in socks[50:]))
"""
    with machine.popen(["runuser", "-u", "bob", "--", "python3", "-ic", hoard], stdin=-1, stdout=-1, text=True) as held:
        assert held.stdout.readline() == "20\n"
        assert machine.run("runuser -u alice mailq").stdout == "Mail queue is empty\n"
        held.stdin.close()


def test_nothing_is_setuid(machine):
    def found(root):
        out = subprocess.run(["find", root, "-xdev", "-perm", "/6000"], capture_output=True, check=True, text=True)
        return {f"/{Path(path).relative_to(root)}" for path in out.stdout.splitlines()}

    new = found(machine.root) - found(package.tree())
    assert {path for path in new if not path.startswith("/var/log/journal/")} == set()
    for directory in ("/run/pyfix", "/run/systemd"):
        assert machine.run(f"find {directory} -perm /6000").stdout == ""
    mode = (machine.root / "usr/sbin/sendmail").stat().st_mode
    assert stat.S_IMODE(mode) == 0o755


def test_programs_take_no_modules_from_their_callers(machine):
    programs = "dpkg -L pyfix | grep -E '^/usr/(s?bin|libexec/pyfix)/.'"
    first_lines = machine.run(f"head -qn1 $({programs}) | sort -u").stdout
    assert first_lines == "#!/usr/bin/python3 -I\n#!/usr/bin/python3 -IS\n"


def test_stop_ends_everything_and_start_brings_it_back(machine):
    machine.python(GREETING)
    assert running(machine)
    machine.run("systemctl stop pyfix")
    assert running(machine) == set()
    machine.wait_until(lambda: listening(machine) == [], "closed sockets", timeout=1)
    units = machine.run("systemctl list-units --no-legend --plain --state=active 'pyfix*'").stdout
    assert [line.split()[0] for line in units.splitlines()] in ([], ["pyfix.slice"])
    done = machine.run("sendmail bob", input="Subject: down\n\n", check=False)
    assert (done.returncode, "mail system is down" in done.stderr) == (75, True)
    machine.run("systemctl start pyfix")
    assert listening(machine) == ["127.0.0.1:25", "[::1]:25"]
    assert machine.python(GREETING).stdout.startswith("220 mail.localdomain ESMTP pyfix")


def test_restart_renews_the_roles_and_keeps_the_sockets(machine):
    machine.python(GREETING)
    show = "systemctl show -P ActiveEnterTimestampMonotonic pyfix-smtpd.socket pyfix-cleanup.socket"
    before, sockets = running(machine), machine.run(show).stdout
    machine.run("systemctl restart pyfix")
    machine.python(GREETING)
    after = running(machine)
    assert machine.run(show).stdout == sockets
    assert before.isdisjoint(after)
    assert "smtpd" in {name for _, name in after}


def test_reload_makes_a_change_take_effect_without_an_end(machine, main_cf):
    machine.python(GREETING)
    before = {entry for entry in running(machine) if entry[1] == "smtpd"}
    main_cf("smtpd_banner = $myhostname changed")
    machine.wait_until(lambda: machine.python(GREETING).stdout.startswith("220 mail.localdomain changed"), "the banner")
    assert {entry for entry in running(machine) if entry[1] == "smtpd"} == before


def test_a_start_with_a_broken_main_cf_fails_with_the_reason_and_without_a_storm(machine, main_cf):
    machine.run("systemctl stop pyfix")
    main_cf("smtpd_timeout = soon", reload=False)
    done = machine.run("systemctl start pyfix", check=False)
    assert done.returncode == 1
    assert "parameter smtpd_timeout: " in machine.run("systemctl status pyfix", check=False).stdout
    machine.wait_until(lambda: listening(machine) == [], "closed sockets", timeout=1)
    assert running(machine) == set()


def test_a_role_that_cannot_start_is_not_tried_again_and_again(machine, main_cf):
    machine.run("systemctl stop pyfix-smtpd.service")
    main_cf("smtpd_timeout = soon", reload=False)
    cursor = machine.journal("-n", "1")[0]["__CURSOR"]

    def attempts():
        return machine.journal(f"--after-cursor={cursor}", "-t", "pyfix/smtpd", "-p", "err")

    with machine.popen(["/usr/bin/python3", "-c", GREETING], stdout=subprocess.PIPE, text=True) as client:
        machine.wait_until(lambda: len(attempts()) >= 4, "attempts")
        main_cf(reload=False)
        # The client waited for the repair.
        assert client.communicate(timeout=60)[0].startswith("220 mail.localdomain ESMTP")
    assert len(attempts()) <= 6
    assert all("parameter smtpd_timeout: " in entry["MESSAGE"] for entry in attempts())


LISTEN = "[Socket]\nListenStream=\nListenStream=25\n"


@pytest.fixture
def open_to_the_network(machine, maildirs):
    machine.write("/etc/systemd/system/pyfix-smtpd.socket.d/listen.conf", LISTEN)
    machine.run("systemctl daemon-reload && systemctl stop pyfix && systemctl start pyfix")
    yield
    machine.run("rm -r /etc/systemd/system/pyfix-smtpd.socket.d")
    machine.run("systemctl daemon-reload && systemctl stop pyfix && systemctl start pyfix")


def check_ledger(machine, sent, user):
    machine.wait_until(lambda: "is empty" in machine.run("mailq").stdout, "an empty queue", timeout=120)
    for text in (machine.root / f"home/{user}/Maildir/new").glob("*"):
        sent.ledger.receive(text.read_bytes(), [user])
    assert sent.refused == []
    assert sent.acknowledged > 100
    assert (sent.ledger.missing(), sent.ledger.damaged() - {""}, sent.ledger.duplicates()) == (set(), set(), 0)


def test_an_upgrade_under_load_refuses_nobody_and_loses_nothing(machine, network, deb, open_to_the_network, tmp_path):
    machine.write("/etc/pyfix/main.cf", machine.read("/etc/pyfix/main.cf") + "# mine\n")
    mine = machine.read("/etc/pyfix/main.cf")
    upgrade = package.newer(deb, tmp_path)
    with traffic(network, machine.address, "alice@mail.localdomain") as sent:
        machine.wait_until((machine.root / "home/alice/Maildir/new").exists, "the first message")
        before = running(machine)
        machine.install(upgrade)
        machine.run("systemctl restart pyfix")
        machine.run("systemctl reload pyfix")
    check_ledger(machine, sent, "alice")
    assert before.isdisjoint(running(machine))
    assert machine.read("/etc/pyfix/main.cf") == mine
    assert machine.run("dpkg-query --show -f '${Version}' pyfix").stdout.endswith("+next")
    assert machine.run("systemctl is-active pyfix").stdout == "active\n"


def test_changed_and_new_units_take_effect_and_go_again_with_a_downgrade(machine, deb, tmp_path):
    def change(tree):
        units = tree / "usr/lib/systemd/system"
        service = units / "pyfix-qmgr.service"
        service.write_text(service.read_text().replace("[Service]\n", "[Service]\nEnvironment=NEWER=yes\n"))
        socket = (units / "pyfix-showq.socket").read_text().replace("showq/io.pyfix.Showq", "showq/newer")
        (units / "pyfix-newer.socket").write_text(
            socket.replace("[Socket]\n", "[Socket]\nService=pyfix-showq.service\n")
        )
        postinst = tree / "DEBIAN/postinst"
        (block,) = re.findall(r"if .*\n.*\n.*unmask 'pyfix-showq\.socket'(?:.*\n)*?fi\n", postinst.read_text())
        postinst.write_text(postinst.read_text().replace(block, block + block.replace("showq", "newer")))

    machine.install(package.newer(deb, tmp_path, change))
    machine.python(GREETING)
    assert machine.run("systemctl is-active pyfix-newer.socket").stdout == "active\n"
    assert machine.run("systemctl show -P NeedDaemonReload pyfix-qmgr.service").stdout == "no\n"
    machine.wait_until(lambda: environment(machine, "pyfix-qmgr.service") == "yes", "the changed unit's qmgr")
    machine.install(deb)
    machine.wait_until(lambda: environment(machine, "pyfix-qmgr.service") == "", "the former unit's qmgr")
    assert machine.run("systemctl is-active pyfix").stdout == "active\n"


def environment(machine, unit):
    """NEWER in the environment of the unit's process; None where that does not run."""
    pid = machine.main_pid(unit)
    lines = machine.run(f"tr '\\0' '\\n' </proc/{pid}/environ", check=False).stdout.splitlines() if pid else []
    return dict(line.partition("=")[::2] for line in lines).get("NEWER", "") if lines else None


def test_removal_under_load_keeps_all_that_was_accepted(network, deb):
    with Machine(package.tree(), name="mail", network=network) as machine:
        machine.run("useradd --create-home alice")
        machine.write("/etc/systemd/system/pyfix-smtpd.socket.d/listen.conf", LISTEN)
        machine.install(deb)
        machine.write("/etc/pyfix/main.cf", machine.read("/etc/pyfix/main.cf") + "home_mailbox = Maildir/\n")
        machine.run("systemctl restart pyfix")
        with traffic(network, machine.address, "alice@mail.localdomain") as sent:
            machine.wait_until((machine.root / "home/alice/Maildir/new").exists, "the first message")
            machine.run("apt-get remove -y -q pyfix")
        assert (running(machine), listening(machine)) == (set(), [])
        machine.install(deb)
        machine.wait_until(lambda: "is empty" in machine.run("mailq").stdout, "an empty queue", timeout=120)
        for text in (machine.root / "home/alice/Maildir/new").glob("*"):
            sent.ledger.receive(text.read_bytes(), ["alice"])
        assert sent.acknowledged > 0
        assert (sent.ledger.missing(), sent.ledger.damaged() - {""}) == (set(), set())


def test_it_does_not_hold_up_the_end_of_the_machine(deb):
    with Machine(package.tree(), name="short") as machine:
        machine.install(deb)
        machine.run("sendmail root", input="Subject: before the end\n\nbody\n")
        start = time.monotonic()
        machine.power_off()
        assert time.monotonic() - start < 10
        machine.boot()
        assert listening(machine) == ["127.0.0.1:25", "[::1]:25"]
        machine.wait_until((machine.root / "var/mail/root").exists, "the mail from before")


def test_removal_keeps_configuration_and_mail_and_purging_keeps_mail(deb):
    with Machine(package.tree(), name="removed") as machine:
        machine.install(deb)
        machine.run("systemctl stop pyfix-qmgr.timer pyfix-pickup.path pyfix-pickup.timer")
        machine.run("sendmail root", input="Subject: kept\n\nbody\n")
        machine.run("apt-get remove -y -q pyfix")
        assert (running(machine), listening(machine)) == (set(), [])
        assert machine.run("systemctl list-units --no-legend --state=active 'pyfix-*'").stdout == ""
        assert not (machine.root / "usr/lib/pyfix").exists()
        assert "myhostname = removed.localdomain" in machine.read("/etc/pyfix/main.cf")
        machine.write("/etc/pyfix/main.cf", machine.read("/etc/pyfix/main.cf") + "# mine\n")

        machine.install(deb)
        assert machine.read("/etc/pyfix/main.cf").endswith("# mine\n")
        machine.wait_until((machine.root / "var/mail/root").exists, "the mail that was there")
        machine.wait_until(lambda: "is empty" in machine.run("mailq").stdout, "an empty queue")

        # postdrop would start it
        machine.run("systemctl mask --runtime --now pyfix-pickup.service")
        machine.run("systemctl stop pyfix-qmgr.timer pyfix-pickup.path pyfix-pickup.timer")
        machine.run("sendmail root", input="Subject: kept\n\nbody\n")
        done = machine.run("apt-get purge -y -q pyfix")
        machine.run("systemctl unmask --runtime pyfix-pickup.service")
        assert "pyfix: 1 files, which may be mail, are still in /var/spool/pyfix; they are kept." in done.stdout
        assert len(list((machine.root / "var/spool/pyfix/maildrop").iterdir())) == 1
        for path in ("etc/pyfix", "var/lib/pyfix", "run/pyfix"):
            assert not (machine.root / path).exists()

        machine.install(deb)
        machine.wait_until(lambda: (machine.root / "var/mail/root").read_text().count("Subject: kept") == 2, "the rest")
        machine.wait_until(lambda: "is empty" in machine.run("mailq").stdout, "an empty queue")
        machine.run("apt-get purge -y -q pyfix")
        assert not (machine.root / "var/spool/pyfix").exists()
        left = machine.run("find / -xdev -name '*pyfix*' -not -path '/var/tmp/*' -not -path '/proc/*'").stdout
        assert left == ""
