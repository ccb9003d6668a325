"""``make install DESTDIR=``."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def install(destination):
    subprocess.run([sys.executable, ROOT / "packaging/install.py", destination], check=True, capture_output=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    destination = tmp_path_factory.mktemp("destination")
    install(destination)
    return destination


def programs(folder):
    return {path.stem for path in (ROOT / "pyfix" / folder).glob("[a-z]*.py")}


def test_each_role_has_a_launcher_a_root_and_each_command_a_place(installed):
    assert {path.name for path in (installed / "usr/libexec/pyfix").iterdir()} == programs("roles")
    assert {path.name for path in (installed / "usr/lib/pyfix/root").iterdir()} == programs("roles")
    found = {path.name for name in ("bin", "sbin") for path in (installed / "usr" / name).iterdir()}
    assert found >= programs("commands")
    assert found - programs("commands") <= {"mailq", "newaliases"}


def test_launchers_run_isolated_and_compile(installed):
    for path in [*(installed / "usr/libexec/pyfix").iterdir(), *(installed / "usr/sbin").iterdir()]:
        text = path.read_text()
        # sendmail, which runs once a message, does without what Python looks for at its start (-S).
        assert text.startswith(f"#!/usr/bin/python3 -I{'S' if path.name == 'sendmail' else ''}\n")
        compile(text, str(path), "exec")
        assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_nothing_is_setuid_and_nothing_is_missing(installed):
    assert [path for path in installed.rglob("*") if path.lstat().st_mode & 0o6000] == []
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "pyfix").rglob("*.py")}
    assert {
        str(p.relative_to(installed / "usr/lib/pyfix")) for p in (installed / "usr/lib/pyfix").rglob("*.py")
    } == modules
    units = {path.name for path in (ROOT / "units").iterdir()}
    assert {path.name for path in (installed / "usr/lib/systemd/system").iterdir()} == units
    assert (installed / "usr/lib/systemd/catalog/pyfix.catalog").exists()
    assert (installed / "usr/lib/sendmail").readlink() == Path("../sbin/sendmail")


def test_a_configuration_that_is_there_stays_and_old_modules_go(tmp_path):
    install(tmp_path)
    (tmp_path / "etc/pyfix/main.cf").write_text("myhostname = mine\n")
    (tmp_path / "usr/lib/pyfix/pyfix/old.py").write_text("")
    install(tmp_path)
    assert (tmp_path / "etc/pyfix/main.cf").read_text() == "myhostname = mine\n"
    assert not (tmp_path / "usr/lib/pyfix/pyfix/old.py").exists()


def test_the_sockets_directories_and_the_queue_are_made_for_the_units(installed):
    lines = (installed / "usr/lib/tmpfiles.d/pyfix.conf").read_text().split("\n")
    made = {line.split()[1]: line.split()[2:4] for line in lines if line.startswith("d ")}
    for unit in (ROOT / "units").glob("*.socket"):
        text = unit.read_text()
        if "ListenStream=/" in text:
            directory = text.partition("ListenStream=")[2].split("\n")[0].rpartition("/")[0]
            assert made[directory] == (["0755", "root"] if "SocketMode=0666" in text else ["0750", "root"])
    assert "/var/spool/pyfix/maildrop" in made
