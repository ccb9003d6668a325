import pytest

from pyfix.system.options import Command

COMMAND = Command("postx", "[-a] [-b value] [file...]", "Does things.")


def test_options_end_where_arguments_begin():
    """As in Postfix's commands; what looks like an option behind an argument is an argument."""
    assert COMMAND.parse(["-a", "-b", "x", "f", "-a"], "ab:") == ([("-a", ""), ("-b", "x")], ["f", "-a"])
    assert COMMAND.parse(["--", "-a"], "ab:") == ([], ["-a"])


@pytest.mark.parametrize("arguments", [["-x"], ["-b"], ["--nosuch"]])
def test_wrong_use_ends_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        COMMAND.parse(arguments, "ab:")
    assert end.value.code == 1
    assert capsys.readouterr().err.endswith("\npostx: fatal: usage: postx [-a] [-b value] [file...]\n")


@pytest.mark.parametrize(("argument", "text"), [("--help", "usage: postx [-a]"), ("--version", "pyfix ")])
def test_help_and_version(argument, text, capsys):
    with pytest.raises(SystemExit) as end:
        COMMAND.parse([argument], "ab:")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(text)


def test_fatal_ends_with_its_status(capsys):
    COMMAND.warning("odd")
    with pytest.raises(SystemExit) as end:
        COMMAND.fatal("no more", 75)
    assert end.value.code == 75
    assert capsys.readouterr().err == "postx: warning: odd\npostx: fatal: no more\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é €", "plain é €"),
        ("a\x1b[31m\x07\t\x7f\x9b", "a?[31m????"),
        ("\udcff\r", "??"),
        ("two\nlines", "two?lines"),
    ],
    ids=["text", "controls", "bytes", "lines"],
)
def test_nothing_in_a_text_controls_a_terminal(text, shown, capsys):
    COMMAND.warning(text)
    assert capsys.readouterr().err == f"{COMMAND.name}: warning: {shown}\n"
