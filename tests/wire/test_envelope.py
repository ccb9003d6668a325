import pytest

from pyfix.wire.command import split_command
from pyfix.wire.envelope import parse_mail, parse_rcpt
from pyfix.wire.smtp_dialogue import Mail, Rcpt


def mail(text, **options):
    return parse_mail(split_command(text.encode()), **({"strict": False, "smtputf8": True, "dsn": True} | options))


def rcpt(text, **options):
    return parse_rcpt(split_command(text.encode()), **({"strict": False, "smtputf8": False, "dsn": True} | options))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("MAIL FROM:<>", Mail("")),
        ("mail from:<a@b>", Mail("a@b")),
        ("MAIL FROM:<a@b> SIZE=10 BODY=8BITMIME", Mail("a@b", 10, "8bit")),
        ("MAIL FROM:<a@b> size=0000000000000000000000010 body=7bit", Mail("a@b", 10, "7bit")),
        ("MAIL FROM:<é@b> SMTPUTF8", Mail("é@b", smtputf8=True)),
        ("MAIL FROM:<a@b> RET=hdrs ENVID=a+2Bb+20c", Mail("a@b", envid="a+b c", ret="HDRS")),
        ("MAIL FROM:<a@b> AUTH=<>", Mail("a@b")),
    ],
)
def test_mail(line, expected):
    assert mail(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("MAIL FROM:<a@b> XVERP", "+="),
        ("MAIL FROM:<a@b> xverp=-=", "-="),
        ("MAIL FROM:<a@b> XVERP= SIZE=1", "501 5.5.4 Error: XVERP needs two characters from -=+"),
        ("MAIL FROM:<a@b> XVERP=+", "501 5.5.4 Error: XVERP needs two characters from -=+"),
        ("MAIL FROM:<a@b> XVERP=x=", "501 5.5.4 Error: XVERP needs two characters from -=+"),
        ("MAIL FROM:<a@b> XVERPS", "555 5.5.4 Unsupported option: XVERPS"),
        ("MAIL FROM:<> XVERP", "503 5.5.4 Error: XVERP requires non-null sender"),
    ],
)
def test_xverp(line, expected):
    answer = mail(line, verp=("+=", "-=+"))
    assert (answer.verp_delimiters if isinstance(answer, Mail) else str(answer)) == expected
    assert not isinstance(mail(line), Mail)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("MAIL", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL FROM <a@b>", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL TO:<a@b>", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL FROM:<a@>", "501 5.1.7 Bad sender address syntax"),
        ("MAIL FROM:<a@b> SIZE", "555 5.5.4 Unsupported option: SIZE"),
        ("MAIL FROM:<a@b> SIZE=+5", "501 5.5.4 Bad message size syntax"),
        ("MAIL FROM:<a@b> SIZE=1_000", "501 5.5.4 Bad message size syntax"),
        ("MAIL FROM:<a@b> SIZE=\uff11", "501 5.5.4 Bad message size syntax"),
        ("MAIL FROM:<a@b> SIZE=9223372036854775808", "552 5.3.4 Message size exceeds file system imposed limit"),
        ("MAIL FROM:<a@b> SIZE=" + "9" * 1000, "552 5.3.4 Message size exceeds file system imposed limit"),
        ("MAIL FROM:<a@b> BODY=BINARYMIME", "555 5.5.4 Unsupported option: BODY=BINARYMIME"),
        ("MAIL FROM:<a@b> SMTPUTF8=1", "555 5.5.4 Unsupported option: SMTPUTF8=1"),
        ("MAIL FROM:<a@b> RET=FULL RET=FULL", "501 5.5.4 Bad RET parameter syntax"),
        ("MAIL FROM:<a@b> ENVID=", "501 5.5.4 Bad ENVID parameter syntax"),
        ("MAIL FROM:<a@b> ENVID=+0A", "501 5.5.4 Bad ENVID parameter syntax"),
        ("MAIL FROM:<a@b> ENVID=+00", "501 5.5.4 Bad ENVID parameter syntax"),
        ("MAIL FROM:<a@b> X\x07Y", "555 5.5.4 Unsupported option: X?Y"),
    ],
)
def test_mail_refused(line, reply):
    assert str(mail(line)) == reply


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("RCPT TO:<a@b>", Rcpt("a@b")),
        ("RCPT TO:<a@b> NOTIFY=NEVER", Rcpt("a@b", notify=1)),
        ("RCPT TO:<a@b> NOTIFY=success,Failure,DELAY", Rcpt("a@b", notify=14)),
        ("RCPT TO:<a@b> ORCPT=rfc822;a+2Bb@c", Rcpt("a@b", "rfc822;a+b@c")),
        (r"RCPT TO:<a@b> ORCPT=utf-8;\x{e9}@c", Rcpt("a@b", "utf-8;é@c")),
    ],
)
def test_rcpt(line, expected):
    assert rcpt(line) == expected


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("RCPT TO", "501 5.5.4 Syntax: RCPT TO:<address>"),
        ("RCPT TO:<>", "501 5.1.3 Bad recipient address syntax"),
        ("RCPT TO:<a@é.example>", "501 5.1.3 Bad recipient address syntax"),
        ("RCPT TO:<a@b> NOTIFY=NEVER,DELAY", "501 5.5.4 Error: Bad NOTIFY parameter syntax"),
        ("RCPT TO:<a@b> NOTIFY=", "501 5.5.4 Error: Bad NOTIFY parameter syntax"),
        ("RCPT TO:<a@b> NOTIFY=DELAY NOTIFY=DELAY", "501 5.5.4 Error: Bad NOTIFY parameter syntax"),
        ("RCPT TO:<a@b> ORCPT=rfc822", "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        ("RCPT TO:<a@b> ORCPT=;a", "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        ("RCPT TO:<a@b> ORCPT=rfc822;+", "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        ("RCPT TO:<a@b> ORCPT=rfc822;a+0Ab", "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        ("RCPT TO:<a@b> ORCPT=rfc822;+00", "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        ("RCPT TO:<a@b> ORCPT=rfc822;a+FF", "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        (r"RCPT TO:<a@b> ORCPT=utf-8;\x{0A}", "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        ("RCPT TO:<a@b> FOO=x", "555 5.5.4 Unsupported option: FOO=x"),
    ],
)
def test_rcpt_refused(line, reply):
    assert str(rcpt(line)) == reply


def test_dsn_can_be_turned_off():
    assert str(mail("MAIL FROM:<a@b> RET=FULL", dsn=False)) == "501 5.7.1 DSN support is disabled"
    assert str(rcpt("RCPT TO:<a@b> NOTIFY=DELAY", dsn=False)) == "501 5.7.1 DSN support is disabled"
