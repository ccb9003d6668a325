import os

import pytest

from pyfix.conf.error import ConfigError
from pyfix.system.configuration import load_config, load_config_from, own_addresses, replace_main_cf


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
    return tmp_path


def test_the_environment_names_the_directory(directory):
    (directory / "main.cf").write_text("mail_name = mine\n")
    conf = load_config()
    assert (conf.directory, conf.text("config_directory"), conf.text("mail_name")) == (
        str(directory),
        str(directory),
        "mine",
    )


def test_without_main_cf_defaults_hold(directory):
    conf = load_config([("mail_owner", "me")])
    assert (conf.text("mail_name"), conf.text("mail_owner")) == ("pyfix", "me")
    conf.check()


def test_an_unreadable_main_cf_is_told(directory):
    (directory / "main.cf").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        load_config()


def test_names_of_the_machine(directory):
    conf = load_config()
    host = os.uname().nodename
    assert conf.text("myhostname") == (host if "." in host else f"{host}.localdomain")
    assert conf.text("mydomain") == conf.text("myhostname").partition(".")[2]
    assert load_config([("myhostname", "a.b.example")]).text("mydomain") == "b.example"


def test_addresses_of_the_machine(directory):
    conf = load_config(
        [("inet_interfaces", "loopback-only"), ("inet_protocols", "ipv4"), ("proxy_interfaces", "192.0.2.9")]
    )
    assert own_addresses(conf) == ("127.0.0.1", "192.0.2.9")
    assert conf.words("mynetworks") == ("127.0.0.1/32",)


def test_myorigin_from_a_file(directory):
    (directory / "mailname").write_text("example.org \nsecond line\n")
    assert load_config([("myorigin", str(directory / "mailname"))]).text("myorigin") == "example.org"


@pytest.mark.parametrize("content", [b"", b"\n", b"a\0b\n", b"\xff\n"])
def test_a_file_without_a_domain(directory, content):
    (directory / "mailname").write_bytes(content)
    with pytest.raises(ConfigError, match="line 1: parameter myorigin: the first line is no domain"):
        load_config([("myorigin", str(directory / "mailname"))]).text("myorigin")


def test_a_file_that_is_missing(directory):
    with pytest.raises(ConfigError, match="parameter myorigin: No such file"):
        load_config([("myorigin", "/nowhere/mailname")]).text("myorigin")


def test_replace_main_cf_keeps_the_mode(directory):
    path = directory / "main.cf"
    path.write_text("a = 1\n")
    path.chmod(0o640)
    replace_main_cf(str(path), lambda content: content + b"b = 2\n")
    assert path.read_text() == "a = 1\nb = 2\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(directory) == ["main.cf"]


def test_replace_main_cf_makes_a_missing_file(directory):
    replace_main_cf(str(directory / "main.cf"), lambda content: content + b"b = 2\n")
    assert load_config_from(str(directory)).text("b") == "2"


def test_a_failed_change_leaves_the_old_file(directory):
    path = directory / "main.cf"
    path.write_text("a = 1\n")

    def fail(content):
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        replace_main_cf(str(path), fail)
    assert path.read_text() == "a = 1\n"
    assert os.listdir(directory) == ["main.cf"]
