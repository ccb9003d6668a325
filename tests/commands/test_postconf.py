"""postconf: what it prints and what it changes. Expected texts are those of Postfix 3.10 for the same main.cf."""

import os
import subprocess
import sys

import pytest

from pyfix.commands import postconf

MAIN_CF = """\
# top
mydestination = a,
  b,
# mid
  c
mail_name = x

unused_thing = 5
own = 6
myorigin = $own
mail_name = y   z
smtpd_relay_restrictions=permit_mynetworks,reject
relay_destination_rate_delay=5s
empty_one =
"""
REPEAT = "postconf: warning: {}/main.cf, line 11: overriding earlier entry: mail_name=x\n"
UNUSED = (
    "postconf: warning: {0}/main.cf: unused parameter: unused_thing=5\n"
    "postconf: warning: {0}/main.cf: unused parameter: empty_one=\n"
)

FOLDED = """\
proxy_write_maps = $smtp_sasl_auth_cache_name $lmtp_sasl_auth_cache_name
    $address_verify_map $postscreen_cache_map
"""
FOLDED_VALUE = """\
$smtp_sasl_auth_cache_name $lmtp_sasl_auth_cache_name $address_verify_map
    $postscreen_cache_map
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("MAIL_CONFIG", str(tmp_path))
    (tmp_path / "main.cf").write_text(MAIN_CF)
    return tmp_path


@pytest.fixture
def run(capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["postconf", *arguments])
        try:
            postconf.main()
        except SystemExit as end:
            status = end.code or 0
        else:
            status = 0
        output = capsys.readouterr()
        return output.out, output.err, status

    return run


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["mail_name", "myorigin"], "mail_name = y z\nmyorigin = $own\n"),
        (["-h", "mail_name", "myorigin"], "y z\n$own\n"),
        (["-H", "mail_name", "own"], "mail_name\nown\n"),
        (["-x", "myorigin"], "myorigin = 6\n"),
        (["own"], "own = 6\n"),
        (["-o", "mail_name=q", "mail_name"], "mail_name = q\n"),
        (["-o", "own = q r ", "-x", "myorigin"], "myorigin = q r\n"),
        (["empty_one"], "empty_one =\n"),
        (["foo_destination_rate_delay"], "foo_destination_rate_delay = $default_destination_rate_delay\n"),
        (["-f", "proxy_write_maps"], FOLDED),
        (["-hf", "proxy_write_maps"], FOLDED_VALUE),
    ],
    ids=" ".join,
)
def test_parameters_by_name(directory, run, arguments, expected):
    assert run(*arguments) == (expected, REPEAT.format(directory) + UNUSED.format(directory), 0)


def test_what_is_set(directory, run):
    """Names that nothing uses are not shown but warned of."""
    expected = (
        "mail_name = y z\nmydestination = a, b, c\nmyorigin = $own\nown = 6\nrelay_destination_rate_delay = 5s\n"
        "smtpd_relay_restrictions = permit_mynetworks,reject\n"
    )
    assert run("-n") == (expected, REPEAT.format(directory) + UNUSED.format(directory), 0)
    assert run("-nq")[1] == REPEAT.format(directory)


def test_another_directory(directory, run, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "main.cf").write_text("mail_name = other\n")
    assert run("-c", str(other), "-n") == (f"config_directory = {other}\nmail_name = other\n", "", 0)


def test_defaults_do_not_need_main_cf(directory, run):
    (directory / "main.cf").write_text("nonsense\n")
    assert run("-d", "mail_name", "mail_owner") == ("mail_name = pyfix\nmail_owner = pyfix\n", "", 0)
    assert run("-dx", "syslog_name") == ("syslog_name = pyfix\n", "", 0)
    assert run("-dx", "forward_path") == (
        "forward_path = $home/.forward${recipient_delimiter}${extension}, $home/.forward\n", "", 0
    )  # fmt: skip


def test_all_parameters(directory, run):
    lines = run()[0].splitlines()
    names = [line.partition(" =")[0] for line in lines]
    assert names == sorted(names)
    assert {"mail_name", "own", "relay_destination_rate_delay", "virtual_transport_rate_delay"} <= set(names)
    assert not {"unused_thing", "transport_time_limit", "virtual_maps"} & set(names)
    assert "mail_name = y z" in lines
    assert len(run("-d")[0].splitlines()) == len(lines) - 1


def test_an_unknown_parameter(directory, run):
    out, err, status = run("-q", "nosuch", "own")
    assert (out, status) == ("own = 6\n", 0)
    assert "postconf: warning: nosuch: unknown parameter\n" in err


def test_without_main_cf(directory, run):
    (directory / "main.cf").unlink()
    assert run("-n") == ("", "", 0)
    assert run("mail_name") == ("mail_name = pyfix\n", "", 0)


def test_table_types(run):
    assert "hash\ninline\nlmdb\nproxy\nregexp\n" in run("-m")[0]


def test_set(directory, run):
    assert run("-e", "mydestination=  q r  ", "new=1", "own=") == ("", "", 0)
    assert (directory / "main.cf").read_text() == MAIN_CF.replace(
        "mydestination = a,\n  b,\n# mid\n  c\n", "mydestination = q r\n# mid\n"
    ).replace("own = 6", "own = ") + "new = 1\n"


def test_set_without_option(directory, run):
    assert run("own=7") == ("", "", 0)
    assert "\nown = 7\n" in (directory / "main.cf").read_text()


def test_comment_out(directory, run):
    assert run("-#", "own", "nosuch") == ("", "", 0)
    assert (directory / "main.cf").read_text() == MAIN_CF.replace("own = 6", "#own = 6")


def test_exclude(directory, run):
    assert run("-X", "own", "mail_name") == ("", "", 0)
    text = MAIN_CF.replace("own = 6\n", "").replace("mail_name = x\n", "").replace("mail_name = y   z\n", "")
    assert (directory / "main.cf").read_text() == text


def test_an_edit_makes_main_cf(directory, run):
    (directory / "main.cf").unlink()
    assert run("-e", "a=b") == ("", "", 0)
    assert (directory / "main.cf").read_text() == "a = b\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "-d"], "specify one of -d -n"),
        (["-n", "-e", "a=b"], "specify one of -n -e"),
        (["-X", "own=7"], "specify one of -e -X"),
        (["-#", "own=7"], "specify one of -e -#"),
        (["-e"], "-e requires name=value argument"),
        (["-X"], "-X requires name argument"),
        (["-e", "foo"], "missing '=' after attribute name: \"foo\""),
        (["-e", "a b=c"], "missing '=' after attribute name: \"a b=c\""),
        (["-e", "=1"], 'missing attribute name: "=1"'),
        (["-e", "#x=1"], "-e, -X, or -# accepts no comment input"),
        (["-e", "x=a\nb"], "-e, -X, or -# accepts no multi-line input"),
        (["own=1", "mail_name"], "missing '=' after attribute name: \"mail_name\""),
        (["-o", "x"], "missing '=' after attribute name: \"x\""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(directory, run, arguments, message):
    assert run(*arguments) == ("", f"postconf: fatal: {message}\n", 1)
    assert (directory / "main.cf").read_text() == MAIN_CF


def test_an_unknown_option(run):
    out, err, status = run("-z")
    assert (out, status) == ("", 1)
    assert err.startswith("postconf: option -z not recognized\npostconf: fatal: usage: postconf [-c config_dir]")


def test_a_broken_main_cf(directory, run):
    (directory / "main.cf").write_text("a = $b\nb = $a\nmail_name = $a\n")
    circle = "parameter a: the value refers to itself: a -> b -> a; break the circle"
    assert run("-x", "mail_name") == ("", f"postconf: fatal: {directory}/main.cf, line 1: {circle}\n", 1)
    assert run("mail_name")[0] == "mail_name = $a\n"
    (directory / "main.cf").write_text("nonsense\n")
    trouble = "not an assignment: 'nonsense'; write: name = value"
    assert run("mail_name")[1:] == (f"postconf: fatal: {directory}/main.cf, line 1: {trouble}\n", 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written(directory, run):
    directory.chmod(0o500)
    assert run("-e", "a=b")[1:] == (f"postconf: fatal: {directory}/main.cf.tmp: Permission denied\n", 1)


def test_help(run):
    out, err, status = run("--help")
    assert (err, status) == ("", 0)
    assert out.startswith("usage: postconf [-c config_dir]")


def test_a_closed_pipe_is_no_traceback(directory):
    script = f"{sys.executable} -m pyfix.commands.postconf -d | head -1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2bounce_notice_recipient = postmaster\n", "")
