"""What a large queue costs: the second half of ``make bench``.

==================  ==============================================================================================
case                what is measured
==================  ==============================================================================================
queue_run_N         an attempt at each of N deferred messages, all of which are deferred again: ms per message
first_delivery      from the start with 100,000 deferred messages that are all due, to the delivery of a new one: s
new_message         from sendmail to the mailbox while those are tried: s, the median of five
mailq_first         from the start of mailq to its first line, meanwhile: s
qmgr_memory         the queue manager's largest resident set in all this: MiB
dead_destination    time for mail to live destinations when there is mail for a dead one, too: how much more, in %
many_recipients     a message with 10,000 recipients at 50 destinations, by SMTP to smtp-sink: recipients/s
==================  ==============================================================================================

Deferred messages are copies of one that the system itself has deferred, under queue IDs of their own.
"""

import os
import re
import statistics
import subprocess
import time

from pyfix.spool.queue_id import QueueIds, hash_key

SIZES = (10_000, 50_000, 100_000)
_RECIPIENT = "u0000000@d00.far.test"
_DESTINATIONS = 50
# Next hops that differ: addresses of this machine, with one sink on all of them.
_SINKS = [f"10.99.0.{number + 1}" for number in range(_DESTINATIONS)]
_DEAD = "10.99.1.1"
# What was tried is not due again before all have been, however slow the machine.
_DEFER = "default_transport = retry:4.0.0 not now\nminimal_backoff_time = 3000s\n"


def prepare(system):
    """Addresses, and a transport table: d00.sink.test to d49.sink.test, dead.test."""
    machine = system.machine
    for address in _SINKS:
        machine.run(f"ip addr add {address}/32 dev lo")
    # What is sent there is never answered.
    machine.run(
        "ip link add void type veth peer name abyss; ip link set void up; ip link set abyss up;"
        f"ip route add {_DEAD}/32 dev void; ip neigh add {_DEAD} lladdr 02:00:00:00:00:01 dev void"
    )
    lines = [f"d{number:02}.sink.test smtp:[{address}]:2500" for number, address in enumerate(_SINKS)]
    machine.write(f"/etc/{system.name}/transport", "\n".join([*lines, f"dead.test smtp:[{_DEAD}]:2500", ""]))
    machine.run("systemctl stop sink")
    sink = "chroot /opt/postfix-tree smtp-sink -u nobody 0.0.0.0:2500 500"
    machine.run(f"systemd-run --unit=sink-everywhere -p LogRateLimitIntervalSec=0 {sink}")


def _settings(system, more=""):
    return f"transport_maps = texthash:/etc/{system.name}/transport\nsmtp_connect_timeout = 5s\n{more}"


def _files(directory):
    return [entry for _, _, names in os.walk(directory) for entry in names]


def _wait(condition, what, timeout):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.01)


def _spool(system):
    return system.machine.root / system.spool.lstrip("/")


def fill(system, count):
    """Stops the system, and makes ``count`` deferred messages, all due."""
    system.configure(_settings(system, _DEFER))
    spool = _spool(system)
    system.machine.run(f"rm -rf {system.spool}/deferred/* {system.spool}/defer/*")
    system.machine.run(f"echo far | sendmail -f a@bench.test {_RECIPIENT}")
    _wait(lambda: _files(spool / "deferred") and _files(spool / "defer"), "a deferred message", 30)
    system.machine.run(f"systemctl stop {system.name}")
    (model,) = (spool / "deferred").rglob(_files(spool / "deferred")[0])
    content, owner = model.read_bytes(), model.stat()
    model.unlink()
    ids = QueueIds(1)
    now_usec = time.time_ns() // 1000
    past = time.time() - 1000
    for number in range(count):
        # 997 microseconds from one to the next: they spread over the subdirectories.
        queue_id = ids.new(now_usec - (count - number) * 997)
        directory = spool / "deferred" / hash_key(queue_id)[0]
        if not directory.is_dir():
            directory.mkdir(0o700)
            os.chown(directory, owner.st_uid, owner.st_gid)
        path = directory / queue_id
        recipient = f"u{number:07}@d{number % _DESTINATIONS:02}.far.test"
        path.write_bytes(content.replace(_RECIPIENT.encode(), recipient.encode()))
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o700)
        os.utime(path, (past, past))


def _start(system):
    system.machine.run(f"systemctl start {system.name}")


def _tried(system):
    """Whether no message is active, and none is left that is due."""
    spool = _spool(system)
    if _files(spool / "active") or _files(spool / "incoming"):
        return False
    now = time.time()
    return all(entry.stat().st_mtime > now for path in (spool / "deferred").iterdir() for entry in os.scandir(path))


def _wait_tried(system):
    active = _spool(system) / "active"
    _wait(lambda: not _files(active) and _tried(system), "the end of a queue run", 1200)


def measure_queue_run(system, count):
    """Milliseconds per message of an attempt at all."""
    fill(system, count)
    start = time.monotonic()
    _start(system)
    _wait(lambda: _files(_spool(system) / "active"), "the queue manager", 60)
    _wait_tried(system)
    return (time.monotonic() - start) * 1000 / count


def _deliver_one(system):
    """Seconds from sendmail to the mailbox."""
    mailbox = system.machine.root / "home/bench/Maildir/new"
    before = len(os.listdir(mailbox)) if mailbox.exists() else 0
    start = time.monotonic()
    system.machine.run("echo new | sendmail -f a@bench.test bench@mail.bench.test")
    _wait(lambda: mailbox.exists() and len(os.listdir(mailbox)) > before, "a delivery", 120)
    return time.monotonic() - start


def _qmgr_memory(system):
    """VmHWM of the queue manager, MiB."""
    command = r"grep -h VmHWM $(grep -lE '^Name:\s*qmgr' /proc/[0-9]*/status; true) /dev/null"
    sizes = re.findall(r"VmHWM:\s*(\d+) kB", system.machine.run(command).stdout)
    if not sizes:
        unit = f"/proc/{system.machine.main_pid('pyfix-qmgr')}/status"
        sizes = re.findall(r"VmHWM:\s*(\d+) kB", system.machine.read(unit))
    return max(map(int, sizes)) / 1024


def measure_large_queue(system, count):
    """With ``count`` messages that are all due: start, new mail, mailq, memory."""
    fill(system, count)
    start = time.monotonic()
    _start(system)
    _deliver_one(system)
    values = {"first_delivery": time.monotonic() - start}
    values["new_message"] = statistics.median(_deliver_one(system) for _ in range(5))
    start = time.monotonic()
    process = system.machine.popen(["mailq"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.readline()
    values["mailq_first"] = time.monotonic() - start
    process.stdout.close()
    process.wait()
    busy = bool(_files(_spool(system) / "active"))
    if not busy:
        raise SystemExit(f"{system.name} was through before it was measured: more messages are needed")
    _wait_tried(system)
    values["qmgr_memory"] = _qmgr_memory(system)
    return values


def measure_dead_destination(system, messages=2000, pairs=11):
    """How much longer mail for live destinations takes beside mail for a dead one, in per cent.

    With and without are measured one after the other, for the machine's speed changes more than what is looked for.
    """
    system.configure(_settings(system))
    ratios = []
    for number in range(pairs):
        times = {with_dead: _live_mail(system, messages, with_dead) for with_dead in (number % 2 > 0, number % 2 == 0)}
        ratios.append(times[True] / times[False])
    _empty(system)
    return (statistics.median(ratios) - 1) * 100


def _live_mail(system, messages, with_dead):
    """Seconds that mail for a live destination takes, with mail for a dead one in the queue or not."""
    _empty(system)
    _smtp_source(system, messages // 10, "x@d00.sink.test", 20)
    _wait(lambda: not _undelivered(system), "an empty queue", 60)
    if with_dead:
        _smtp_source(system, messages // 10, "x@dead.test", 5)
    dead = _undelivered(system)
    start = time.monotonic()
    _smtp_source(system, messages, "x@d00.sink.test", 20)
    _wait(lambda: _undelivered(system) <= dead, "the end of deliveries", 300)
    return time.monotonic() - start


def _empty(system):
    """A restart with an empty queue."""
    system.machine.run(f"systemctl stop {system.name}; rm -rf {system.spool}/deferred/* {system.spool}/active/*; true")
    _start(system)


def _undelivered(system):
    """The messages in incoming/ and active/."""
    return {name for queue in ("incoming", "active") for name in _files(_spool(system) / queue)}


def _smtp_source(system, messages, recipient, sessions):
    options = f"-d -s {sessions} -m {messages} -l 4096 -f a@bench.test -t {recipient}"
    system.machine.run(f"chroot /opt/postfix-tree smtp-source {options} 127.0.0.1:25", timeout=600)


def measure_many_recipients(system, recipients=10_000):
    """Recipients per second of one message, from its injection to an empty queue."""
    system.configure(_settings(system))
    addresses = [f"u{number:05}@d{number % _DESTINATIONS:02}.sink.test\n" for number in range(recipients)]
    system.machine.write("/root/recipients", "".join(addresses))
    spool = _spool(system)
    # Once for warmth.
    system.machine.run("echo warm | sendmail -f a@bench.test x@d00.sink.test")
    _wait(lambda: not _queued(spool), "an empty queue", 60)
    start = time.monotonic()
    system.machine.run("(echo Subject: many; echo; echo x) | sendmail -f a@bench.test $(cat /root/recipients)")
    _wait(lambda: not _queued(spool), "an empty queue", 600)
    return recipients / (time.monotonic() - start)


def _queued(spool):
    return any(_files(spool / name) for name in ("maildrop", "incoming", "active", "deferred"))


def measure(system, sizes=SIZES):
    """All cases: {case: value}."""
    values = {"many_recipients": statistics.median(measure_many_recipients(system) for _ in range(3))}
    values["dead_destination"] = measure_dead_destination(system)
    for size in sizes:
        values[f"queue_run_{size}"] = measure_queue_run(system, size)
    return values | measure_large_queue(system, sizes[-1])


UNITS = {
    "first_delivery": "s",
    "new_message": "s",
    "mailq_first": "s",
    "qmgr_memory": "MiB",
    "dead_destination": "%",
    "many_recipients": "recipients/s",
} | {f"queue_run_{size}": "ms/message" for size in SIZES}
