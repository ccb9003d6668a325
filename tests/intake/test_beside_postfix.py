"""What a user hands to sendmail, as it stands in the queue: Postfix's own and ours."""

import os

import pytest
from intake.test_message import canonical, intake

from pyfix.spool.content import read_content
from pyfix.spool.queue_file import read_envelope
from pyfix.wire.submission import SubmissionText

FIELDS = b"Message-Id: <1@x>\nDate: Sun, 22 Nov 2026 16:24:41 +0000 (UTC)\nFrom: a@example.com\n"
MESSAGES = [
    b"Subject: nul\n" + FIELDS + b"\nhi\0there\n\0\n",
    b"Subject: n\0ul\n folded\n" + FIELDS + b"X: \0\n\n\0",
    b"Subject: cr\rX: y\n" + FIELDS + b"\nhi\rthere\r\nx\r\r\ny\n\rz\n.\r\rx\n",
    b"Subject: cr at the end\n" + FIELDS + b"\ny\r\n\r",
    b"Subject: crlf\r\n" + FIELDS.replace(b"\n", b"\r\n") + b"\r\n\r.\r\nx\n\n.\r\nbehind the end\n",
]


def ours(message):
    text = SubmissionText("always", dot_ends=True)
    content = text.feed(message) + text.finish()
    stored = canonical(content, intake())
    return stored if stored.endswith(b"\n") else stored + b"\n"


def postfixes(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        stored = b"".join(read_content(fd, read_envelope(fd).content_offset))
    finally:
        os.close(fd)
    return stored if stored.endswith(b"\n") else stored + b"\n"


@pytest.mark.system
@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix is started by root")
def test_nul_and_stray_cr(postfix):
    with postfix.started():
        for message in MESSAGES:
            postfix.run("sendmail", "-f", "a@example.com", "b@example.com", data=message)
        postfix.wait_for(lambda: len(postfix.files("deferred")) == len(MESSAGES))
        stored = [postfixes(path) for path in postfix.files("deferred")]

    def behind_received(content):
        return content[content.index(b"Subject:") :]

    assert sorted(map(behind_received, stored)) == sorted(behind_received(ours(message)) for message in MESSAGES)
