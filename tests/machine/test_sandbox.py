"""The table in docs/sandbox.md against what a probe finds that runs in the place of each unit's program."""

import json
import re
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from machine import package

DOCUMENT = package.ROOT / "docs/sandbox.md"
PROBE, TOLD = "/usr/local/lib/probe.py", "/usr/local/lib/told.json"
DROP_IN = f"""[Service]
ExecCondition=
ExecStart=
ExecStart=/usr/bin/python3 -IS {PROBE} {TOLD}
ExecStartPost=
ExecStopPost=
Restart=no
StandardOutput=append:{{output}}
{{extra}}
"""
ALL = "every unit"
UNITS = sorted(path.stem for path in (package.ROOT / "units").glob("*.service"))

AS_THE_HOST = {"pyfix", "pyfix-check", "stop-pyfix"}
"""Those without a root directory."""

SOCKETS = {
    "journald": "/run/systemd/journal/socket",
    "syslog": "/dev/log",
    "notify": "/run/systemd/notify",
    "manager": "/run/systemd/private",
    "D-Bus": "/run/dbus/system_bus_socket",
    "userdb": "/run/systemd/userdb/io.systemd.DynamicUser",
    "abstract sockets": "@probe",
}
"""Beside those in /run/pyfix."""

ENVIRONMENT = {
    "HOME", "INVOCATION_ID", "LANG", "LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "LOGNAME", "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE", "NOTIFY_SOCKET", "PATH", "SHELL", "SYSTEMD_EXEC_PID", "USER", "WATCHDOG_PID",
    "WATCHDOG_USEC",
}  # fmt: skip
"""What systemd says of the unit."""

CAPABILITIES = {6: "CAP_SETGID", 7: "CAP_SETUID"}

SECRETS = (
    "/boot/secret", "/etc/ssh/secret", "/etc/ssl/private/secret", "/home/alice/secret",
    "/opt/secret", "/srv/secret", "/var/lib/secret", "/var/log/secret",
)  # fmt: skip
"""Planted files that root alone may read, or alice: root's processes try, too."""

ELSEWHERE = ("/run/nscd", "/run/systemd/resolve", "/var/lib/sss/pipes")
"""Directories that units name and this machine would not have."""

OUTSIDE = """
import socket, sys
with socket.create_server(("0.0.0.0", 2525)):
    print("ready", flush=True)
    sys.stdin.read()
"""

INSIDE = """
import socket, sys
with socket.create_server(("127.0.0.1", 2526)), socket.socket(socket.AF_UNIX) as abstract:
    abstract.bind("\\0probe")
    abstract.listen()
    print("ready", flush=True)
    sys.stdin.read()
"""

IDLE = """
import sys
print("ready", flush=True)
sys.stdin.read()
"""


# The table.


def words(cell):
    return set(re.findall(r"`([^`]+)`", cell))


def read_table():
    """The table's rows by unit: the words in each column, those of every unit among them."""
    lines = [line.strip("| \n").split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    heads = [cell.strip() for cell in lines[0]]
    rows = {cells[0].strip("` "): dict(zip(heads, map(words, cells), strict=True)) for cells in lines[1:]}
    common = rows.pop(ALL)
    return {unit: {head: row[head] | common[head] for head in heads} for unit, row in rows.items()}


TABLE = read_table()


def covers(entry, path):
    """``/**`` at its end stands for all that is below."""
    top = entry.removesuffix("/**")
    return path == top or (entry != top and path.startswith(f"{top}/"))


def on_the_way(entry, path):
    return entry.startswith(f"{path.rstrip('/')}/")


# The probe.


@contextmanager
def started(*command):
    """A program that says when it is ready, and ends with its standard input."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.stdin.close()


@pytest.fixture(scope="module")
def place(machine, network):
    """A machine with all that a probe may find; what the probe is told."""
    for directory in ELSEWHERE:
        machine.run(f"mkdir -p {directory} && touch {directory}/file")
    for path in SECRETS:
        machine.write(path, "secret\n")
    machine.run(f"chmod 600 {' '.join(SECRETS)} && chown alice: /home/alice/secret")
    machine.write(PROBE, (Path(__file__).parent / "probe.py").read_text())
    sockets = machine.run("find /run/pyfix -type s -printf '%h\n'").stdout.split()
    sockets = {directory.rpartition("/")[2]: directory for directory in sockets}
    for name, directory in sockets.items():
        (sockets[name],) = machine.run(f"find {directory} -type s").stdout.split()
    python = ("/usr/bin/python3", "-c")
    as_alice = ("/usr/bin/setpriv", "--reuid", "alice", "--clear-groups")
    with (
        started("ip", "netns", "exec", network.name, *python, OUTSIDE),
        started(*machine.enter(), *python, INSIDE),
        started(*machine.enter(), *as_alice, *python, IDLE),
    ):
        machine.told = {
            "sockets": sockets | SOCKETS,
            "tcp": {"here": ("127.0.0.1", 2526), "elsewhere": (f"{network.prefix}.1", 2525)},
        }
        yield machine


def probe(machine, unit, extra=""):
    """What the probe reports in the place of a unit's program, with a drop-in that has ``extra`` settings, too."""
    neighbour = "pyfix-qmgr" if unit != "pyfix-qmgr" else "pyfix-cleanup"
    drop_in, output = f"/run/systemd/system/{unit}.service.d", f"/run/probe-{unit}.json"
    try:
        pids = machine.run(
            f"mkdir -p {drop_in} && cat >{drop_in}/probe.conf && systemctl daemon-reload && "
            f"systemctl stop {unit}.service && systemctl start {neighbour} && "
            f"systemctl show -P MainPID systemd-journald {neighbour} && pgrep --uid alice",
            input=DROP_IN.format(output=output, extra=extra), timeout=30,
        ).stdout.split()  # fmt: skip
        names = ("root", "pyfix", "users")
        processes = {"init": 1} | dict(zip(names, map(int, pids), strict=True))
        machine.write(TOLD, json.dumps(machine.told | {"processes": processes}))
        return json.loads(machine.run(f"systemctl start {unit}.service && cat {output}", timeout=30).stdout)
    finally:
        machine.run(
            f"systemctl stop {unit}.service; rm -rf {output} {drop_in}; systemctl daemon-reload; systemctl start pyfix",
            timeout=30,
        )


def account(machine, found):
    uid, (gid, _, _) = found["uids"][0], found["gids"]
    assert len(set(found["uids"])) == len(set(found["gids"])) == 1
    names = {int(machine.run("id -u pyfix").stdout): "pyfix", 0: "root"}
    user = names.get(uid, "dynamic" if 61184 <= uid <= 65519 else str(uid))
    # In a user namespace of its own a group that it was given has no number.
    groups = {"pyfix" if group in (65534, *names) else str(group) for group in set(found["groups"]) - {gid}}
    return {user} | {f"group {name}" for name in groups}


def found_words(machine, report):
    """A report in the words of the table."""
    sets = report["identity"]["capabilities"].values()
    held = {number for number in range(64) if any(each >> number & 1 for each in sets)}
    kinds = {"AF_INET": "IPv4", "AF_INET6": "IPv6", "AF_UNIX": "Unix"}
    over = {f"{power} {name}" for name, powers in report["over"].items() for power in powers}
    return {
        "user": account(machine, report["identity"]),
        "capabilities": {CAPABILITIES.get(number, str(number)) for number in held},
        "network": {kinds.get(word, word) for word in report["network"]},
        "listens": set(report["descriptors"]["listeners"]),
        "calls": set(report["calls"]),
        "executes": set(report["executes"]),
        "may also": set(report["powers"]) | over,
    }


def compare(machine, unit, report):
    """Where the table and a report differ: the column, what the table alone has, what the report alone has."""
    row, found = TABLE[unit], found_words(machine, report)
    differences = [(head, row[head] - words, words - row[head]) for head, words in found.items() if words != row[head]]
    files = report["files"]
    for head, kinds in (("reads", ("read", "listed")), ("writes", ("written files", "written directories"))):
        seen = {path for kind in kinds for path in files[kind]}
        missing = {entry for entry in row[head] if (entry.removesuffix("/**") or "/") not in seen}
        beyond = {path for path in seen if not any(covers(entry, path) for entry in row[head])}
        if head == "reads":
            ways = (
                row["reads"]
                | {f"/run/pyfix/{name}/socket" for name in row["calls"]}
                | set(SOCKETS.values())
                | {"/var/tmp"}
            )
            beyond -= {path for path in files["listed"] if any(on_the_way(entry, path) for entry in ways)}
        if missing or beyond:
            differences.append((head, missing, beyond))
    return differences


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_may_do_what_the_table_says_and_nothing_else(place, unit):
    report = probe(place, unit)
    assert compare(place, unit, report) == []
    # Everybody may ask to be told when memory or time get short.
    kernel = [path for path in report["kernel"] if not re.search("/(memory.)?pressure", path)]
    assert (report["written in /usr"], kernel) == ([], [])
    identity = report["identity"]
    assert (identity["no new privileges"], identity["seccomp"], identity["umask"]) == (1, 2, 0o077)
    assert report["descriptors"]["open"] == list(range(3 + len(report["descriptors"]["listeners"])))
    assert set(report["environment"]) <= ENVIRONMENT
    if unit not in AS_THE_HOST:
        assert not set(SECRETS) & set(report["files"]["read"])
        assert report["processes"] == []
        tops = {entry.split("/")[1] for entry in TABLE[unit]["reads"] | TABLE[unit]["writes"]}
        assert set(report["top"]) <= tops | {"dev", "lib", "lib64", "proc", "root", "run", "sys", "tmp", "usr", "var"}


def test_the_table_has_a_row_for_every_unit():
    assert sorted(TABLE) == UNITS


MUTANTS = {
    "the host's root": ("pyfix-smtpd", "RootDirectory=\nTemporaryFileSystem=", "reads"),
    "a directory to write to": (
        "pyfix-showq",
        "BindReadOnlyPaths=\nBindReadOnlyPaths=/usr -/lib -/lib64\nBindPaths=/etc/pyfix /var/spool/pyfix",
        "writes",
    ),
    "files to execute": ("pyfix-bounce", "NoExecPaths=", "executes"),
    "a socket to call": ("pyfix-smtpd", "BindReadOnlyPaths=/run/pyfix/qmgr", "calls"),
    "a network": ("pyfix-local", "PrivateNetwork=no\nRestrictAddressFamilies=AF_INET", "network"),
    "a capability": ("pyfix-local", "CapabilityBoundingSet=CAP_CHOWN", "capabilities"),
    "a group": ("pyfix-rewrite", "SupplementaryGroups=pyfix", "user"),
    "other processes": ("pyfix-showq", "InaccessiblePaths=", "may also"),
    "system calls": ("pyfix-discard", "SystemCallFilter=@system-service", "may also"),
    "less to read": ("pyfix-anvil", "InaccessiblePaths=+/etc/pyfix", "reads"),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_unit_that_may_more_or_less_is_found_out(place, mutant):
    unit, settings, column = mutant
    assert column in {difference[0] for difference in compare(place, unit, probe(place, unit, settings))}


def test_the_probe_finds_what_root_may(place):
    """In a mount namespace, for the attempts succeed."""
    user = int(place.run("pgrep --uid alice").stdout)
    place.write(TOLD, json.dumps(place.told | {"processes": {"users": user}}))
    found = json.loads(place.run(f"unshare --mount /usr/bin/python3 -IS {PROBE} {TOLD}").stdout)
    assert set(SECRETS) <= set(found["files"]["read"])
    assert found["executes"] == ["/usr", "files it wrote", "memory files", "memory it wrote"]
    assert set(place.told["sockets"]) == set(found["calls"])
    assert {"AF_NETLINK", "AF_PACKET", "connect here", "connect elsewhere", "listen"} <= set(found["network"])
    assert {"see", "read the environment of", "write the memory of", "trace", "signal"} <= set(found["over"]["users"])
    assert {
        "become another user", "become root", "give files away", "make setuid files", "mount", "change its root",
        "make a mount namespace", "share memory",
    } <= set(found["powers"])  # fmt: skip


# What systemd says.


def test_exposure(place):
    out = place.run(f"systemd-analyze security --no-pager {' '.join(f'{unit}.service' for unit in UNITS)}").stdout
    levels = dict(re.findall(r"Overall exposure level for (\S+)\.service: ([\d.]+)", out))
    assert sorted(levels) == UNITS
    above = {unit: level for unit, level in levels.items() if float(level) > max(map(float, TABLE[unit]["exposure"]))}
    assert above == {}


def test_none_of_our_files_is_setuid(place):
    ours = place.run("dpkg -L pyfix").stdout.split()
    modes = {path: (place.root / path.lstrip("/")).lstat().st_mode for path in ours}
    assert [path for path, mode in modes.items() if mode & (stat.S_ISUID | stat.S_ISGID)] == []
    found = set(place.run("find / -xdev -perm /6000").stdout.split())
    before = subprocess.run(
        ["find", ".", "-xdev", "-perm", "/6000"], cwd=package.tree(), capture_output=True, text=True
    )
    new = found - {path.removeprefix(".") for path in before.stdout.split()}
    assert {path for path in new if not path.startswith("/var/log/journal/")} == set()


# Keys.


@pytest.mark.parametrize("unit", ["pyfix-smtpd", "pyfix-smtp"])
def test_a_credential_is_read_by_its_unit_alone(place, unit):
    place.run("install -d -m 700 /etc/keys && install -m 600 /dev/stdin /etc/keys/key.pem", input="the key\n")
    report = probe(place, unit, "LoadCredential=key.pem:/etc/keys/key.pem")
    own = f"/run/credentials/{unit}.service"
    assert set(report["environment"]) <= ENVIRONMENT | {"CREDENTIALS_DIRECTORY"}
    ((column, missing, beyond),) = compare(place, unit, report)
    assert (column, missing) == ("reads", set())
    assert beyond == {"/run/credentials", own, f"{own}/key.pem"}


def test_others_do_not_see_a_credential_of_a_unit_that_runs(place):
    for unit in ("pyfix-smtpd", "pyfix-smtp"):
        place.run(["install", "-D", "-m", "644", "/dev/stdin", f"/run/systemd/system/{unit}.service.d/key.conf"],
                  input="[Service]\nLoadCredential=key.pem:/etc/hostname\n")  # fmt: skip
    try:
        place.run("systemctl daemon-reload && systemctl restart pyfix-smtpd pyfix-smtp")
        for unit in ("pyfix-smtpd", "pyfix-smtp"):
            pid, path = place.main_pid(unit), f"/run/credentials/{unit}.service/key.pem"
            owner = place.run(f"ps -o uid= -p {pid}").stdout.strip()
            assert place.run(f"setpriv --reuid {owner} --clear-groups cat {path}").stdout == place.read("/etc/hostname")
            for user in ("alice", "pyfix"):
                seen = place.run(f"setpriv --reuid {user} --clear-groups cat {path}", check=False)
                assert (seen.stdout, "Permission denied" in seen.stderr) == ("", True)
        assert "/run/credentials" not in " ".join(probe(place, "pyfix-cleanup")["files"]["listed"])
    finally:
        place.run("rm -r /run/systemd/system/pyfix-smtp*.service.d; systemctl daemon-reload")
        place.run("systemctl restart pyfix-smtpd pyfix-smtp")
