import pytest

from pyfix.conf.unit import UnitError
from pyfix.system.unit_files import Places, load_units


@pytest.fixture
def write(tmp_path):
    def write(path, text):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    return write


def load(tmp_path, *names, places=Places()):  # noqa: B008 -- a value that cannot change
    return load_units([str(tmp_path / name) for name in names], places)


def test_the_first_directory_wins_and_drop_ins_of_all_count(tmp_path, write):
    write("etc/pyfix-a.service", "[Service]\nExecStart=/etc/a\n")
    write("usr/pyfix-a.service", "[Service]\nExecStart=/usr/a\n")
    write("usr/pyfix-a.service.d/20.conf", "[Service]\nEnvironment=A=2\n")
    write("etc/pyfix-a.service.d/10.conf", "[Service]\nEnvironment=A=1 B=1\n")
    write("usr/pyfix-a.service.d/10.conf", "[Service]\nEnvironment=C=hidden\n")
    write("etc/pyfix-.service.d/30.conf", "[Service]\nEnvironment=D=3\n")
    write("etc/pyfix-a.service.d/ignored.txt", "rubbish")
    service = load(tmp_path, "etc", "usr", "missing").services["pyfix-a.service"]
    assert service.command.argv == ("/etc/a",)
    assert service.environment == {"A": "2", "B": "1", "D": "3"}


def test_the_drop_in_of_the_longer_name_hides_that_of_the_shorter(tmp_path, write):
    write("u/pyfix-a.service", "[Service]\nExecStart=/a\n")
    write("u/pyfix-.service.d/x.conf", "[Service]\nEnvironment=A=all\n")
    write("u/pyfix-a.service.d/x.conf", "[Service]\nEnvironment=A=one\n")
    assert load(tmp_path, "u").services["pyfix-a.service"].environment == {"A": "one"}


def test_other_programs_units_are_not_read(tmp_path, write):
    write("u/pyfix-a.service", "[Service]\nExecStart=/a\n")
    write("u/pyfixed.service", "rubbish")
    write("u/ssh.service", "rubbish")
    write("u/pyfix-a.service~", "rubbish")
    write("u/pyfix.slice", "rubbish")
    assert [unit.name for unit in load(tmp_path, "u").units] == ["pyfix-a.service"]


def test_paths_are_moved_below_a_prefix(tmp_path, write):
    write("u/pyfix-a.service", "[Service]\nExecStart=/a\n")
    write("u/pyfix-a.socket", "[Socket]\nListenStream=/run/pyfix/a/s\nListenStream=/run/other\nListenStream=25\n")
    write("u/pyfix-a.path", "[Path]\nDirectoryNotEmpty=/var/spool/pyfix/maildrop\n")
    loaded = load(tmp_path, "u", places=Places.below("/p"))
    assert loaded.sockets[0].listen == ("/p/run/a/s", "/run/other", "25")
    assert loaded.paths[0].not_empty == ("/p/spool/maildrop",)


@pytest.mark.parametrize("kind", ["socket", "timer", "path"])
def test_a_trigger_needs_its_service(tmp_path, write, kind):
    write(f"u/pyfix-a.{kind}", "")
    with pytest.raises(UnitError, match=f"pyfix-a.{kind}: there is no pyfix-a.service"):
        load(tmp_path, "u")


def test_no_units_at_all_is_an_error(tmp_path):
    with pytest.raises(UnitError, match="no pyfix units in "):
        load(tmp_path, "u")


def test_what_is_not_text_is_refused(tmp_path):
    (tmp_path / "pyfix-a.service").write_bytes(b"[Service]\nExecStart=\xff\n")
    with pytest.raises(UnitError, match="not UTF-8 at byte 20"):
        load(tmp_path, ".")
