import pytest

from pyfix.conf.unit import Unit, UnitError, parse_unit
from pyfix.conf.unit_kinds import not_applied, read_path, read_service, read_socket, read_timer


def unit(name, text):
    return Unit(name, parse_unit(text, name))


def test_a_service():
    read = read_service(
        unit(
            "pyfix-x.service",
            "[Unit]\nAfter=pyfix-a.socket pyfix-b.service\nStartLimitIntervalSec=0\n"
            "[Service]\nType=notify\nExecStart=/usr/libexec/pyfix/x -o a=b\nExecReload=/usr/bin/kill -HUP $MAINPID\n"
            "Restart=on-failure\nRestartSec=1s\nWatchdogSec=1min\nUMask=0077\nLimitNOFILE=1024:4096\n"
            "Environment=A=b\nUser=pyfix\nSupplementaryGroups=one two\nKillMode=mixed\nRuntimeDirectory=x/y\n",
        )
    )
    assert read.command.argv == ("/usr/libexec/pyfix/x", "-o", "a=b")
    assert (read.type, read.reloads, read.restart, read.kill_mode) == ("notify", True, "on-failure", "mixed")
    assert (read.restart_sec, read.watchdog_sec, read.start_limit_interval_sec) == (1.0, 60.0, 0.0)
    assert (read.umask, read.limit_nofile, read.environment) == (0o077, 1024, {"A": "b"})
    assert (read.identity.user, read.identity.supplementary_groups) == ("pyfix", ("one", "two"))
    assert (read.after, read.runtime_directories) == (("pyfix-b.service",), ("x/y",))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "x.service: 0 ExecStart= lines; one is needed"),
        ("ExecStart=/a\nExecStart=/b", "x.service: 2 ExecStart= lines; one is needed"),
        ("ExecStart=/a\nExecReload=/bin/touch /x", "ExecReload= other than kill -HUP"),
        ("ExecStart=/a\nType=forking", "Type=forking is not supported; known are simple, exec, notify, oneshot"),
        ("ExecStart=/a\nRestart=sometimes", "Restart=sometimes is not supported"),
        ("ExecStart=/a\nLimitNOFILE=many", "LimitNOFILE=many: not a number"),
        ("ExecStart=/a\nEnvironment=A", "Environment=A: not NAME=value"),
        ("ExecStart=/a\nEnvironment=LD-X=1", "Environment=LD-X=1: not NAME=value"),
        ("ExecStart=/a\nRuntimeDirectory=../x", "RuntimeDirectory=../x: not a plain name"),
        ("ExecStart=/a\nRuntimeDirectory=/x", "RuntimeDirectory=/x: not a plain name"),
    ],
)
def test_what_a_service_cannot_be(lines, message):
    with pytest.raises(UnitError) as caught:
        read_service(unit("x.service", f"[Service]\n{lines}\n"))
    assert message in str(caught.value)


def test_a_socket():
    read = read_socket(
        unit(
            "pyfix-x.socket",
            "[Socket]\nListenStream=/run/x\nListenStream=[::1]:25\nFileDescriptorName=x\nSocketMode=0660\nSocketGroup=g\n"
            "Backlog=9\nBindIPv6Only=ipv6-only\nDirectoryMode=0750\nFreeBind=yes\n",
        )
    )
    assert (read.listen, read.fd_name, read.service) == (("/run/x", "[::1]:25"), "x", "pyfix-x.service")
    assert (read.mode, read.group, read.backlog, read.ipv6_only, read.directory_mode) == (0o660, "g", 9, True, 0o750)
    assert read.free_bind


@pytest.mark.parametrize("address", ["relative/path", "0", "65536", "host:", "@abstract", "٢٥"])
def test_what_cannot_be_listened_on(address):
    with pytest.raises(UnitError, match="neither a path nor"):
        read_socket(unit("x.socket", f"[Socket]\nListenStream={address}\n"))


def test_a_timer_and_a_path_start_the_service_of_their_name_or_another():
    timer = read_timer(unit("a.timer", "[Timer]\nOnActiveSec=1\nOnBootSec=2\nOnUnitInactiveSec=1min\n"))
    assert (timer.service, timer.on_active, timer.on_inactive) == ("a.service", (1.0, 2.0), (60.0,))
    path = read_path(unit("a.path", "[Path]\nDirectoryNotEmpty=/x\nUnit=b.service\n"))
    assert (path.service, path.not_empty) == ("b.service", ("/x",))


def test_keys_are_told_apart_by_what_becomes_of_them():
    sandbox, unknown = not_applied(
        unit("x.service", "[Unit]\nDescription=x\n[Service]\nUser=x\nPrivateTmp=yes\nCPUWeight=1\n[Socket]\nUser=x\n")
    )
    assert sandbox == ("PrivateTmp",)
    assert unknown == ("Service.CPUWeight", "Socket.User")
