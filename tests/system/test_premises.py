import os

from pyfix.system import premises


def test_a_configuration_that_only_its_owner_can_read(tmp_path):
    main_cf = tmp_path / "main.cf"
    main_cf.write_text("")
    tmp_path.chmod(0o755)
    main_cf.chmod(0o644)
    assert premises.unreadable(str(tmp_path)) == []
    main_cf.chmod(0o600)
    tmp_path.chmod(0o700)
    others = "and roles run as other users"
    assert premises.unreadable(str(tmp_path)) == [
        f'{tmp_path} can be read by its owner only (mode 0700), {others}: "chmod 755 {tmp_path}"',
        f'{main_cf} can be read by its owner only (mode 0600), {others}: "chmod 644 {main_cf}"',
    ]


def test_a_main_cf_need_not_exist(tmp_path):
    tmp_path.chmod(0o755)
    assert premises.unreadable(str(tmp_path)) == []


def test_directories_of_sockets(tmp_path):
    (tmp_path / "run/one").mkdir(parents=True)
    listen = ("25", f"{tmp_path}/run/one/io.pyfix.One", f"{tmp_path}/run/two/io.pyfix.Two")
    (told,) = premises.missing_sockets(f"{tmp_path}/run", listen)
    assert told.startswith(f'{tmp_path}/run/two is missing: "systemd-tmpfiles --create pyfix.conf"')
    (told,) = premises.missing_sockets(f"{tmp_path}/away", listen)
    assert told.startswith(f"{tmp_path}/away is missing: ")


def test_accounts():
    assert premises.missing_accounts("root") == []
    told = premises.missing_accounts("nobody-of-that-name")
    assert [line.partition(" is missing")[0] for line in told] == [
        "the user nobody-of-that-name (mail_owner)",
        "the group nobody-of-that-name",
    ]


def test_modules(monkeypatch):
    assert premises.missing_modules() == []
    monkeypatch.setattr(premises, "_MODULES", {"no_such_module": "nothing"})
    (told,) = premises.missing_modules()
    assert told.startswith("the Python module no_such_module is missing: install python3-nothing")


def test_systemd_is_known_by_its_directory():
    assert premises.on_systemd() == os.path.isdir("/run/systemd/system")
