"""The texts of notices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.conf.config import Config
from pyfix.conf.main_cf import Assignment
from pyfix.report.template import BUILT_IN, KINDS, Template, TemplateError, expand_template, parse_templates


def configuration(**settings):
    return Config("/", [Assignment(name, value, "main.cf", 1) for name, value in settings.items()])


def parse(text):
    templates, warnings = parse_templates(text)
    assert warnings == []
    return templates


def expand(text, **settings):
    return expand_template(Template("subject", text), configuration(**settings))


WHOLE = """\
# a comment

failure_template = <<END
Charset: utf-8
From: The Post <post@example.org>
subject: Nobody there
Postmaster-Subject: Copy

Dear friend,
é $myhostname
END
delay_template=<<EOF
Subject: Late

later
EOF
"""


def test_a_file():
    templates = parse(WHOLE)
    failure, delay = templates["failure"], templates["delay"]
    assert (failure.charset, failure.author, failure.subject, failure.postmaster_subject) == (
        "utf-8",
        "The Post <post@example.org>",
        "Nobody there",
        "Copy",
    )
    assert failure.text == "Dear friend,\né $myhostname\n"
    assert (delay.subject, delay.text, delay.charset) == ("Late", "later\n", "us-ascii")
    assert delay.postmaster_subject == BUILT_IN["delay"].postmaster_subject
    assert (templates["success"], templates["verify"]) == (BUILT_IN["success"], BUILT_IN["verify"])


@pytest.mark.parametrize(
    ("entry", "warning"),
    [
        ("failure_template = <<END\nSubject: x\n\nEND\n", "missing message text"),
        ("failure_template = <<END\nSubject:\n\nx\nEND\n", "empty"),
        ("failure_template = <<END\nSubject: é\n\nx\nEND\n", "non-ASCII"),
        ("failure_template = <<END\nCc: all@x\n\nx\nEND\n", 'unknown "Cc" header label'),
        ("success_template = <<END\nPostmaster-Subject: x\n\nx\nEND\n", 'inapplicable "Postmaster-Subject"'),
        ("failure_template = <<END\n\né\nEND\n", "8-bit message text"),
        ("failed_template = <<END\n\nx\nEND\n", "unknown template name: failed_template"),
        ("failure_template = <<END\n\nx\n", 'missing "END" end marker'),
    ],
)
def test_what_is_wrong_with_a_template_is_warned_of(entry, warning):
    templates, (line,) = parse_templates(entry)
    assert line.startswith("line 1: ")
    assert warning in line
    if "ignoring" in line:
        assert templates == BUILT_IN


@pytest.mark.parametrize("text", ["nonsense\n", "failure_template\n", "failure_template = <<\n", "x_template = <<$\n"])
def test_a_file_that_is_none(text):
    with pytest.raises(TemplateError, match="line 1: "):
        parse_templates(text)


@pytest.mark.parametrize(
    ("text", "expanded", "warned"),
    [
        ("$myhostname", "mx.example.org", 0),
        ("${myhostname}s $$5", "mx.example.orgs $5", 0),
        ("$delay_warning_time_hours h, ${maximal_queue_lifetime_days} d", "4 h, 5 d", 0),
        ("$delay_warning_time_minutes $delay_warning_time_seconds", "240 14400", 1),
        ("$delay_warning_time_days", "0", 1),
        ("$maximal_queue_lifetime_weeks", "0", 1),
        ("${delay_warning_time?{yes}:{no}}", "yes", 0),
    ],
)
def test_names_are_filled_in(text, expanded, warned):
    found, warnings = expand(text, myhostname="mx.example.org", delay_warning_time="4h")
    assert found.text == expanded
    assert len(warnings) == warned


@pytest.mark.parametrize("text", ["$nothing", "$delay_warning_time_years", "${myhostname", "$", "$(x"])
def test_what_cannot_be_filled_in(text):
    with pytest.raises(TemplateError):
        expand(text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_built_in_texts(kind):
    template, warnings = expand_template(
        BUILT_IN[kind], configuration(delay_warning_time="4h", myhostname="mx.example")
    )
    assert warnings == []
    assert "host mx.example" in template.text
    assert "$" not in template.text
    assert all(len(line) <= 78 for line in template.text.split("\n"))


@given(st.text(st.sampled_from("ab_=<>$#: \nE\t\r\x0b\x85\u2028é"), max_size=200))
def test_any_file_gives_templates_or_an_error(text):
    try:
        templates, _ = parse_templates(text)
    except TemplateError:
        return
    assert set(templates) == set(KINDS)


@given(st.text(max_size=60), st.sampled_from(["Subject", "From", "Charset", "Postmaster-Subject"]))
def test_a_header_of_a_template_is_one_line_of_ascii(value, label):
    templates, _ = parse_templates(f"failure_template = <<END\n{label}: {value}\n\ntext\nEND\n")
    template = templates["failure"]
    for header in (template.subject, template.author, template.charset, template.postmaster_subject):
        assert header.isascii()
        assert not set(header) & set(map(chr, (*range(32), 127)))


@given(st.text(max_size=100))
def test_any_text_expands_or_is_refused(text):
    try:
        template, _ = expand(text)
    except TemplateError:
        return
    assert isinstance(template.text, str)
