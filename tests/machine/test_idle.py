"""A system with nothing to do runs nothing, is quick to wake up, and quick to come back after a kill."""

import time

import pytest

SCHEDULED_RESTART = "MESSAGE_ID=5eb03494b6584870a536b337290809b3"
PROCESS_EXITED = "MESSAGE_ID=98e322203f7a4ed290d09fe03c09fe15"
"""systemd's lines on a process that ended, and on what Restart= does then."""


@pytest.fixture(scope="module", autouse=True)
def settings(machine):
    main_cf = machine.read("/etc/pyfix/main.cf")
    machine.write("/etc/pyfix/main.cf", f"{main_cf}home_mailbox = Maildir/\nmax_idle = 2s\n")
    machine.run("systemctl restart pyfix")


def roles(machine):
    """The main process of each role that runs, by role."""
    found = machine.run("pgrep --full --parent 1 --list-full /usr/libexec/pyfix/", check=False).stdout
    return {line.split("/usr/libexec/pyfix/")[1].split()[0]: int(line.split()[0]) for line in found.splitlines()}


def delivery(machine, sender):
    """When a message of the sender's was delivered; None before that."""
    for entry in machine.journal(f"PYFIX_SENDER={sender}"):
        for line in machine.journal(f"PYFIX_QUEUE_ID={entry['PYFIX_QUEUE_ID']}", "PYFIX_STATUS=sent"):
            return int(line["__REALTIME_TIMESTAMP"]) / 1e6
    return None


def test_an_idle_system_runs_nothing_and_wakes_up(machine):
    taken = []
    for attempt in range(3):
        machine.wait_until(lambda: roles(machine) == {}, "idleness")
        sender = f"idle{attempt}@example.com"
        start = time.time()
        machine.run(f"sendmail -f {sender} bob", input="Subject: idle\n\nbody\n")
        taken.append(machine.wait_until(lambda sender=sender: delivery(machine, sender), "the delivery") - start)
    print(f"first message after idling: {min(taken):.2f} s")
    assert min(taken) < 10  # it wakes up; how fast is a figure of a quiet machine, not of a test run


def test_the_first_message_waits_for_no_chain_of_starts(machine):
    """What it needs starts at the same time: not each role when the one before it is ready."""
    machine.wait_until(lambda: roles(machine) == {}, "idleness")
    machine.run("sendmail -f chain@example.com bob", input="Subject: chain\n\nbody\n")
    machine.wait_until(lambda: delivery(machine, "chain@example.com"), "the delivery")
    show = "systemctl show -P InactiveExitTimestampMonotonic -P ActiveEnterTimestampMonotonic pyfix-{}.service"
    begun, ready = {}, {}
    for role in ("cleanup", "local", "pickup", "postdrop", "rewrite"):
        begun[role], ready[role] = sorted(map(int, machine.run(show.format(role)).stdout.split()))
    assert max(begun.values()) < min(ready.values())


def test_a_killed_role_is_back_at_once(machine):
    machine.run("sendmail -f kill@example.com bob", input="Subject: kill\n\nbody\n")
    before = machine.wait_until(lambda: roles(machine).get("cleanup"), "cleanup")
    machine.kill("pyfix-cleanup.service")
    machine.wait_until(lambda: roles(machine).get("cleanup") not in (None, before), "another cleanup")
    ended, again = (
        int(machine.journal(message, "UNIT=pyfix-cleanup.service")[-1]["__REALTIME_TIMESTAMP"]) / 1e6
        for message in (PROCESS_EXITED, SCHEDULED_RESTART)
    )
    assert again - ended < 1
