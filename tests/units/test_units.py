"""The unit files as text: order, the hardening block, names, and what they let each role reach."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pyfix.conf.unit import Unit, parse_unit
from pyfix.conf.unit_kinds import not_applied
from pyfix.spool.directories import ALL_DIRECTORIES
from pyfix.system.unit_files import Places, load_units

UNITS = Path(__file__).parents[2] / "units"
FILES = sorted(UNITS.iterdir())
HANDLES = {"pyfix.service", "pyfix-check.service", "stop-pyfix.service"}
SERVICES = [path for path in FILES if path.suffix == ".service" and path.name not in HANDLES]
SOCKETS = [path for path in FILES if path.suffix == ".socket"]
PUBLIC = {"pyfix-control.socket", "pyfix-flush.socket", "pyfix-postdrop.socket", "pyfix-showq.socket"}

BLOCK = {
    "CapabilityBoundingSet": [""],
    "DevicePolicy": ["closed"],
    "ExecReload": ["/usr/bin/kill -HUP $MAINPID"],
    "IPAddressDeny": ["any"],
    "KeyringMode": ["private"],
    "KillMode": ["mixed"],
    "LockPersonality": ["yes"],
    "LogRateLimitIntervalSec": ["0"],
    "MemoryDenyWriteExecute": ["yes"],
    "MountAPIVFS": ["yes"],
    "NoNewPrivileges": ["yes"],
    "PrivateDevices": ["yes"],
    "PrivateIPC": ["yes"],
    "PrivateMounts": ["yes"],
    "PrivateNetwork": ["yes"],
    "PrivateTmp": ["yes"],
    "PrivateUsers": ["yes"],
    "ProcSubset": ["pid"],
    "ProtectClock": ["yes"],
    "ProtectControlGroups": ["yes"],
    "ProtectHome": ["yes"],
    "ProtectHostname": ["yes"],
    "ProtectKernelLogs": ["yes"],
    "ProtectKernelModules": ["yes"],
    "ProtectKernelTunables": ["yes"],
    "ProtectProc": ["invisible"],
    "ProtectSystem": ["strict"],
    "RemoveIPC": ["yes"],
    "Restart": ["on-failure"],
    "RestartMaxDelaySec": ["10s"],
    "RestartSec": ["100ms"],
    "RestartSteps": ["10"],
    "RestrictAddressFamilies": ["AF_UNIX"],
    "RestrictNamespaces": ["yes"],
    "RestrictRealtime": ["yes"],
    "RestrictSUIDSGID": ["yes"],
    "Slice": ["pyfix.slice"],
    "SystemCallArchitectures": ["native"],
    "SystemCallErrorNumber": ["EPERM"],
    "SystemCallFilter": [
        "@system-service",
        "~@aio @ipc @keyring @memlock @obsolete @privileged @resources userfaultfd",
        "pipe pipe2",
    ],
    "TemporaryFileSystem": ["/:ro"],
    "TimeoutStopSec": ["30s"],
    "Type": ["notify"],
    "UMask": ["0077"],
    "WatchdogSec": ["60s"],
}

EXCEPTIONS = {
    "bounce": {"SystemCallFilter"},
    "cleanup": {"SystemCallFilter"},
    "flush": {"PrivateUsers", "ProtectHostname"},
    "local": {"CapabilityBoundingSet", "PrivateUsers", "ProtectHome", "ProtectHostname", "SystemCallFilter"},
    "postdrop": {"PrivateUsers", "ProtectHostname"},
    "qmgr": {"PrivateUsers", "ProtectHostname"},
    "resolver": {"IPAddressDeny", "PrivateNetwork", "RestrictAddressFamilies"},
    "showq": {"PrivateUsers", "ProtectHostname"},
    "smtp": {"IPAddressDeny", "PrivateNetwork", "RestrictAddressFamilies"},
}

EXPOSURE = {"smtp": 1.2, "resolver": 1.2, "local": 1.2}
"""systemd-analyze security; 0.5 for the others."""


HIDDEN = "-+/dev/hugepages -+/dev/mqueue -+/dev/pts -+/dev/shm -+/sys -+/tmp -+/var/tmp"
"""What systemd puts into every root, and no role needs."""


def role(path):
    return path.stem.removeprefix("pyfix-")


def settings(path, section):
    found = {}
    for setting in parse_unit(path.read_text(), path.name):
        if setting.section == section:
            found.setdefault(setting.key, []).append(setting.value)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_unit_begins_with_what_it_is_and_its_keys_are_in_order(path):
    lines = path.read_text().split("\n")
    assert re.fullmatch("# [A-Z].+", lines[0])
    assert "[Unit]" in lines
    sections = {}
    for setting in parse_unit(path.read_text(), path.name):
        keys = sections.setdefault(setting.section, [])
        keys += [setting.key] if keys[-1:] != [setting.key] else []
    for keys in sections.values():
        assert keys == sorted(keys, key=str.lower)
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_key_is_known_to_pyfix_up(path):
    _, unknown = not_applied(Unit(path.name, parse_unit(path.read_text(), path.name)))
    assert unknown == ()


@pytest.mark.parametrize("path", SERVICES, ids=role)
def test_a_service_has_the_block_but_for_its_exceptions(path):
    found = settings(path, "Service")
    differing = {key for key, value in BLOCK.items() if found.get(key) != value}
    assert differing == EXCEPTIONS.get(role(path), set())
    assert found["RootDirectory"] == [f"/usr/lib/pyfix/root/{role(path)}"]
    assert found["ExecStart"][0].split()[0] == f"/usr/libexec/pyfix/{role(path)}"
    assert found.get("BindReadOnlyPaths", [])[0] == "/usr -/lib -/lib64"


@pytest.mark.parametrize("path", SERVICES, ids=role)
def test_what_can_be_written_cannot_be_executed(path):
    found = settings(path, "Service")
    written = {word.removeprefix("-") for value in found.get("BindPaths", []) for word in value.split()}
    closed = {word.removeprefix("-") for value in found.get("NoExecPaths", []) for word in value.split()}
    assert closed == {f"+{word}" for word in written}


@pytest.mark.parametrize("path", SERVICES, ids=role)
def test_processes_of_the_same_user_are_out_of_reach(path):
    """By a user namespace of the role's own, or else by having no /proc."""
    found = settings(path, "Service")
    assert found["InaccessiblePaths"][0] == HIDDEN
    assert (found["PrivateUsers"] == ["no"]) == ("-+/proc" in found["InaccessiblePaths"])


@pytest.mark.parametrize("path", SERVICES, ids=role)
def test_an_exception_has_a_comment(path):
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines):
        key, _, value = line.partition("=")
        if key in EXCEPTIONS.get(role(path), ()) and BLOCK[key][0] != value and not line.startswith("#"):
            block = [text for text in lines[:number] if not text.startswith(key + "=")]
            assert block[-1].startswith("# "), line


@pytest.mark.parametrize("path", SERVICES, ids=role)
def test_users_own_files_or_are_dynamic(path):
    found = settings(path, "Service")
    if role(path) == "local":
        assert not found.keys() & {"User", "DynamicUser"}
    elif "/var/spool/pyfix" in str(found.get("BindPaths", "")) + str(found["BindReadOnlyPaths"]):
        assert (found["User"], found["Group"], "DynamicUser" in found) == (["pyfix"], ["pyfix"], False)
    else:
        assert (found["DynamicUser"], "User" in found) == (["yes"], False)
        calls = "/run/pyfix/" in str(found["BindReadOnlyPaths"])
        assert found.get("SupplementaryGroups") == (["pyfix"] if calls else None)


def test_pickup_sees_two_queues_on_one_mount():
    """What is no submission is renamed from maildrop/ to corrupt/."""
    found = settings(UNITS / "pyfix-pickup.service", "Service")
    assert found["BindPaths"] == ["/var/spool/pyfix"]
    hidden = {path for value in found["InaccessiblePaths"][1:] for path in value.split()}
    others = set(ALL_DIRECTORIES) - {"maildrop", "corrupt"}
    assert hidden == {f"-+/var/spool/pyfix/{name}" for name in others}


@pytest.mark.parametrize("path", SERVICES, ids=role)
def test_a_socket_directory_that_is_bound_is_there_first(path):
    found, unit = settings(path, "Service"), settings(path, "Unit")
    bound = set(re.findall(r"/run/pyfix/([a-z]+)", " ".join(found["BindReadOnlyPaths"])))
    sockets = {f"pyfix-{name}.socket" for name in bound}
    wanted = {word for value in unit.get("Wants", []) for word in value.split()}
    assert sockets == {word for word in wanted if word.endswith(".socket")}
    assert sockets <= {word for value in unit.get("After", []) for word in value.split()}
    assert all((UNITS / name).exists() for name in sockets)


@pytest.mark.parametrize("path", SERVICES, ids=role)
def test_the_sockets_that_a_role_calls_are_bound(path):
    """The unit file is the access list; a role that names a service by a variable is not seen here."""
    source = (UNITS.parent / f"pyfix/roles/{role(path)}.py").read_text()
    called = set(re.findall(r"""\bclient\([\w.]+, "([a-z]+)\"""", source))
    bound = set(re.findall(r"/run/pyfix/([a-z]+)", " ".join(settings(path, "Service")["BindReadOnlyPaths"])))
    assert called <= bound


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_its_manual_page_is_there(path):
    (manual,) = settings(path, "Unit")["Documentation"]
    name, section = re.fullmatch(r"man:([a-z]+)\(([18])pyfix\)", manual).groups()
    folder = {"1": "commands", "8": "roles"}[section]
    assert (UNITS.parent / "pyfix" / folder / f"{name}.py").read_text().startswith(f'"""{name}')


def test_a_restart_names_every_role_those_that_call_before_those_that_are_called():
    [restart] = re.findall(r"try-restart ((?:.*\\\n)*.*)", (UNITS / "pyfix.service").read_text())
    names = restart.replace("\\\n", " ").split()
    assert sorted(names) == sorted(path.name for path in SERVICES)
    for path in SERVICES:
        for after in re.findall(r"pyfix-\w+\.service", " ".join(settings(path, "Unit").get("After", []))):
            assert names.index(path.name) < names.index(after)


def test_services_are_not_ordered_in_a_circle():
    """systemd would leave out a job to break it, and pyfix up would end all of it at once."""
    after = {name: set(service.after) for name, service in load_units([str(UNITS)], Places()).services.items()}
    while leaves := {name for name, others in after.items() if not others & after.keys()}:
        after = {name: others for name, others in after.items() if name not in leaves}
    assert after == {}


@pytest.mark.parametrize("path", SOCKETS, ids=role)
def test_a_socket_stands_where_its_name_says(path):
    found = settings(path, "Socket")
    if role(path) == "smtpd":
        assert found["ListenStream"] == ["127.0.0.1:25", "[::1]:25"]
        return
    (address,) = found["ListenStream"]
    directory, name = re.fullmatch(r"/run/pyfix/([a-z]+)/(io\.pyfix\.[A-Z][a-z]+)", address).groups()
    assert directory == role(path)
    assert found["FileDescriptorName"] == [name]
    if path.name in PUBLIC:
        assert (found["SocketMode"], "SocketGroup" in found) == (["0666"], False)
    else:
        assert (found["SocketMode"], found["SocketGroup"]) == (["0660"], ["pyfix"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_handle_reaches_every_unit(path):
    unit, install = settings(path, "Unit"), settings(path, "Install")
    if path.suffix in (".socket", ".timer", ".path"):
        # A restart of pyfix.service does not touch them.
        assert (unit["PartOf"], install["WantedBy"]) == (["pyfix-listen.target"], ["pyfix-listen.target"])
    elif path in SERVICES:
        # pyfix.service restarts them itself, when it has found nothing wrong.
        assert (unit["PartOf"], install) == (["pyfix-listen.target"], {})
        assert unit["ReloadPropagatedFrom"] == ["pyfix.service"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_a_failure_is_looked_into(path):
    if path in SERVICES or path.name == "pyfix.service" or path.suffix in (".socket", ".timer", ".path"):
        assert settings(path, "Unit")["OnFailure"] == ["pyfix-check.service"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_reads_them():
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *FILES], capture_output=True, text=True, check=False, timeout=60
    )
    complaints = [
        line
        for line in (done.stdout + done.stderr).split("\n")
        if line
        and "is not executable: No such file or directory" not in line  # it is not installed here
        and "Unknown key 'PollLimit" not in line  # systemd has it since 255
        and "Unknown key 'Restart" not in line  # RestartSteps=, RestartMaxDelaySec=: since 254
    ]
    assert complaints == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
@pytest.mark.parametrize("path", SERVICES, ids=role)
def test_exposure(path):
    limit = EXPOSURE.get(role(path), 0.5)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={limit * 10:.0f}", path],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.strip().split("\n")[-1]
