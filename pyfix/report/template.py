"""The texts of notices: the built-in ones, and those of bounce_template_file.

The file has an entry for each kind of notice that it changes: ``failure_template``, ``delay_template``,
``success_template``, ``verify_template``::

    failure_template = <<END
    Charset: us-ascii
    From: Mail Delivery System <MAILER-DAEMON>
    Subject: Undelivered Mail Returned to Sender
    Postmaster-Subject: Postmaster Copy: Undelivered Mail

    This is the mail system at host $myhostname.
    END

Every ``$name`` of main.cf may stand in the text; ``$delay_warning_time_hours`` and the like give a time in seconds,
minutes, hours, days or weeks, rounded down. What is wrong with one template makes that one be passed over, with a
warning; what is wrong with the file as such, or with a ``$name``, is an error.

Source: Postfix's bounce(5).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, get_args

from msgspec import Struct
from msgspec.structs import replace

from pyfix.conf.config import Config
from pyfix.conf.error import ValueTrouble
from pyfix.conf.expand import expand
from pyfix.service.bounce import NoticeKind

KINDS: Final[Sequence[NoticeKind]] = get_args(NoticeKind)

_ENTRY = re.compile(r"([A-Za-z0-9_]+)[ \t]*=[ \t]*(.*)")
_MARKER = re.compile(r"<<[ \t]*([A-Za-z0-9]\S*)[ \t]*")
_HEADER = re.compile(r"([A-Za-z-]+)[ \t]*:[ \t]*(.*)")
_SPACE = " \t\r\v\f"
_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}
_TIMES = ("delay_warning_time", "maximal_queue_lifetime")
# A number with more digits should be told in a larger unit.
_LONGEST = 999
_DAY = 86_400


class TemplateError(ValueError):
    """The templates cannot be used; the message says why."""


class Template(Struct, frozen=True):
    """A kind of notice: how it presents itself, and what it says. ``text`` has lines ended by LF."""

    subject: str
    text: str
    # the subject of the copy for postmaster; None where there is none
    postmaster_subject: str | None = None
    charset: str = "us-ascii"
    # the From header; empty for the built-in one
    author: str = ""


_HELP = """\
If you need help, please write to postmaster, and include this
report. The attached message may be left out.

                   The mail system
"""
BUILT_IN: Final[Mapping[NoticeKind, Template]] = {
    "failure": Template(
        "Undelivered Mail Returned to Sender",
        f"""\
This is the mail system at host $myhostname.

Your message did not reach the recipients below, and will not be
tried again. It is attached, whole or without its text.

{_HELP}""",
        "Postmaster Copy: Undelivered Mail",
    ),
    "delay": Template(
        "Delayed Mail (still being retried)",
        f"""\
This is the mail system at host $myhostname.

** This is only a warning. There is no need to send your message again. **

Your message has been waiting for more than $delay_warning_time_hours hour(s) for
the recipients below. It will be tried until it is $maximal_queue_lifetime_days day(s) old.

{_HELP}""",
        "Postmaster Warning: Delayed Mail",
    ),
    "success": Template(
        "Successful Mail Delivery Report",
        """\
This is the mail system at host $myhostname.

Your message was delivered as told below. Where it is in a mailbox,
this is the last you hear of it. Where it went on to another system,
that system may still report a failure.

                   The mail system
""",
    ),
    "verify": Template(
        "Mail Delivery Status Report",
        """\
This is the mail system at host $myhostname.

Here is the report that you asked for.

                   The mail system
""",
    ),
}


def parse_templates(text: str) -> tuple[dict[NoticeKind, Template], list[str]]:
    """The templates of a file, with the built-in ones for what it lacks, and warnings. Raises TemplateError."""
    templates, warnings = dict(BUILT_IN), list[str]()
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at].strip(_SPACE)
        at += 1
        if not line or line.startswith("#"):
            continue
        entry = _ENTRY.fullmatch(line)
        if not entry:
            raise TemplateError(f"line {at}: not NAME = VALUE: {line[:80]}")
        name, value, number = entry[1], entry[2], at
        if value.startswith("<<"):
            marker = _MARKER.fullmatch(value)
            if not marker:
                raise TemplateError(f"line {at}: no proper end marker after <<")
            end = lines.index(marker[1], at) if marker[1] in lines[at:] else len(lines)
            if end == len(lines):
                warnings.append(f'line {number}: missing "{marker[1]}" end marker')
            value = "\n".join(lines[at:end])
            at = end + 1
        kind = next((kind for kind in KINDS if name == f"{kind}_template"), None)
        if kind is None:
            warnings.append(f"line {number}: unknown template name: {name} -- ignoring this template")
            continue
        try:
            templates[kind] = _parse_template(value, BUILT_IN[kind])
        except _Unusable as trouble:
            warnings.append(f"line {number}: {name}: {trouble} -- ignoring this template")
    return templates, warnings


class _Unusable(Exception):
    """A template that is to be passed over."""


def _parse_template(value: str, default: Template) -> Template:
    lines = value.split("\n")
    headers: dict[str, str] = {}
    at = 0
    while at < len(lines) and (header := _HEADER.fullmatch(lines[at])):
        at += 1
        label, content = header[1], header[2].rstrip(_SPACE)
        if not content or not content.isprintable() or not content.isascii():
            raise _Unusable(f'empty, non-ASCII or unprintable "{label}" header value')
        if label.lower() not in _LABELS:
            raise _Unusable(f'unknown "{label}" header label')
        if label.lower() == "postmaster-subject" and default.postmaster_subject is None:
            raise _Unusable(f'inapplicable "{label}" header label')
        headers[_LABELS[label.lower()]] = content
    while at < len(lines) and not lines[at].strip(_SPACE):
        at += 1
    if at == len(lines):
        raise _Unusable("missing message text")
    text = "\n".join(lines[at:]) + "\n"
    template = replace(default, **headers, text=text)
    if not text.isascii() and template.charset.lower() == "us-ascii":
        raise _Unusable("8-bit message text, but no charset value other than us-ascii")
    return template


_LABELS = {"charset": "charset", "from": "author", "subject": "subject", "postmaster-subject": "postmaster_subject"}


def expand_template(template: Template, conf: Config) -> tuple[Template, list[str]]:
    """The template with its text's ``$name`` filled in, and warnings. Raises TemplateError and ConfigError."""
    warnings: list[str] = []

    def value(name: str) -> str:
        for parameter in _TIMES:
            if name.startswith(f"{parameter}_"):
                return _time(conf.seconds(parameter), name, name[len(parameter) + 1 :], warnings)
        try:
            return "".join(c if c.isprintable() else "?" for c in conf.text(name))
        except KeyError:
            raise TemplateError(f"undefined name: ${name}") from None

    try:
        return replace(template, text=expand(template.text, value)), warnings
    except ValueTrouble as trouble:
        raise TemplateError(f"bad $name syntax: {trouble}") from None


def _time(seconds: int, name: str, unit: str, warnings: list[str]) -> str:
    divisor = _UNITS.get(unit)
    if divisor is None:
        raise TemplateError(f'unknown unit "{unit}" of ${name}')
    result = seconds // divisor
    if result > _LONGEST and divisor < _DAY:
        warnings.append(f"${name} is {result}: a larger unit would be easier to read")
    elif not result and seconds and divisor > 1:
        warnings.append(f"${name} is 0: the unit is too large for {seconds} seconds")
    return str(result)
