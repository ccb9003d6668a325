"""What the RPM's scriptlets do, in a Debian machine: rpm there knows nothing of the packages that pyfix depends on.

Fedora's own Python, its paths and SELinux are not seen here.
"""

import shutil

import pytest
from machine import package
from machine.machine import Machine

EXPECTED = ("Creating ", "warning: /etc/pyfix/main.cf saved as /etc/pyfix/main.cf.rpmsave")


@pytest.fixture(scope="module")
def rpm(root):
    """The RPM of these sources."""
    return package.build(package.packages.build_rpm)


@pytest.fixture(scope="module")
def machine(rpm):
    """A machine without pyfix, with what it needs, rpm, and the RPM in /var/tmp/pyfix.rpm."""
    tree = package.trees.with_packages("rpm", *package.packages.control_list("Depends"), "rpm")
    with Machine(tree) as machine:
        shutil.copy(rpm, machine.root / "var/tmp/pyfix.rpm")
        yield machine


def rpm_does(machine, *words):
    done = machine.run(["rpm", "--nodeps", *words], timeout=300)
    said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(EXPECTED)]
    assert said == []


def unit_files(machine, suffixes="socket timer path"):
    patterns = " ".join(f"'pyfix-*.{suffix}'" for suffix in suffixes.split())
    lines = machine.run(f"systemctl list-unit-files --no-legend {patterns}", check=False).stdout.splitlines()
    return {line.split()[0]: line.split()[1] for line in lines}


def test_installation_enables_and_makes_what_is_needed(machine):
    rpm_does(machine, "--install", "/var/tmp/pyfix.rpm")
    assert machine.run("getent passwd pyfix").stdout.startswith("pyfix:")
    assert machine.run("stat -c '%U %a' /var/spool/pyfix/incoming /run/pyfix/cleanup").stdout == "pyfix 700\nroot 750\n"
    assert machine.run("systemctl is-enabled pyfix").stdout == "enabled\n"
    assert set(unit_files(machine).values()) == {"enabled"}
    # Who installs it starts it.
    assert machine.run("systemctl is-active pyfix", check=False).stdout == "inactive\n"
    assert machine.run("rpm --verify --nodeps pyfix").stdout == ""
    machine.run("systemctl start pyfix")
    machine.run("sendmail root", input="Subject: by rpm\n\nbody\n")
    machine.wait_until((machine.root / "var/mail/root").exists, "the mail")


def test_an_upgrade_keeps_the_configuration_and_renews_what_runs(machine):
    machine.write("/etc/pyfix/main.cf", machine.read("/etc/pyfix/main.cf") + "# mine\n")
    # As if the version before had not had this socket.
    machine.run("systemctl disable --now pyfix-discard.socket")
    sockets = machine.run("systemctl show -P ActiveEnterTimestampMonotonic pyfix-smtpd.socket").stdout
    before = machine.main_pid("pyfix-qmgr")
    rpm_does(machine, "--upgrade", "--force", "/var/tmp/pyfix.rpm")
    assert machine.read("/etc/pyfix/main.cf").endswith("# mine\n")
    assert machine.run("systemctl is-active pyfix pyfix-discard.socket").stdout == "active\nactive\n"
    assert machine.run("systemctl show -P ActiveEnterTimestampMonotonic pyfix-smtpd.socket").stdout == sockets
    machine.wait_until(lambda: machine.main_pid("pyfix-qmgr") not in (0, before), "another qmgr")
    assert machine.run("systemctl show -P NeedDaemonReload pyfix-qmgr.service").stdout == "no\n"


def test_erasing_ends_it_and_keeps_mail(machine):
    machine.run("systemctl stop pyfix-pickup.path pyfix-pickup.timer pyfix-pickup.service")
    machine.run("sendmail root", input="Subject: kept\n\nbody\n")
    rpm_does(machine, "--erase", "pyfix")
    units = machine.run("systemctl list-units --no-legend --plain --state=active 'pyfix*'").stdout
    assert [line.split()[0] for line in units.splitlines()] in ([], ["pyfix.slice"])
    assert unit_files(machine) == {}
    assert machine.run("pgrep --full '^/usr/bin/python3 .*/usr/libexec/pyfix/'", check=False).stdout == ""
    assert "# mine" in machine.read("/etc/pyfix/main.cf.rpmsave")
    assert not (machine.root / "usr/lib/pyfix").exists()
    assert machine.run("find /etc/systemd -name 'pyfix*'").stdout == ""

    rpm_does(machine, "--install", "/var/tmp/pyfix.rpm")
    machine.run("systemctl start pyfix")
    machine.wait_until(lambda: "Subject: kept" in (machine.root / "var/mail/root").read_text(), "the mail from before")
