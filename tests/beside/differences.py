"""The differences between Postfix and pyfix that have a reason: docs/differences.md says it, in a row for each.

A difference tells what of Postfix's words becomes which of pyfix's. What is left after that is an error, and so is a
difference that does not occur any more.
"""

import re
from typing import NamedTuple


class Change(NamedTuple):
    """``area`` and ``pattern`` are regular expressions; Postfix's text with the replacement is pyfix's text."""

    area: str
    pattern: str
    replacement: str = ""

    def apply(self, area, theirs, ours):
        """Postfix's text, changed where the area is its own."""
        if not re.fullmatch(self.area, area, re.DOTALL):
            return theirs
        return re.sub(self.pattern, self.replacement, theirs, flags=re.MULTILINE)


class Varying(NamedTuple):
    """What matches the pattern is another text with pyfix, and stands in the same place."""

    area: str
    pattern: str

    def apply(self, area, theirs, ours):
        """Postfix's text with pyfix's in these places."""
        if not re.fullmatch(self.area, area, re.DOTALL):
            return theirs
        found = re.finditer(self.pattern, ours, re.MULTILINE)
        return re.sub(self.pattern, lambda match: next(found, match)[0], theirs, flags=re.MULTILINE)


class Other(NamedTuple):
    """In this area pyfix's text is another one altogether."""

    area: str

    def apply(self, area, theirs, ours):
        """pyfix's text, where the area is its own."""
        return ours if re.fullmatch(self.area, area, re.DOTALL) else theirs


_NOTICE = r"(?:next hop|mailbox \w+): .*"
_OWN = "address-literal-own-(?:smtp|sendmail)"


def _words(theirs, ours):
    return Change(_NOTICE, f"^{re.escape(theirs.strip())}$", ours.strip().replace("\\", r"\\"))


DIFFERENCES = {
    "EHLO": [
        Change("answer: .*", r"^250-ETRN\n"),
        Change("answer: .*", r"^250-SMTPUTF8\n250 CHUNKING$", "250 SMTPUTF8"),
    ],
    "Words of notices": [
        _words(
            """
I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.
""",
            """
Your message did not reach the recipients below, and will not be
tried again. It is attached, whole or without its text.
""",
        ),
        _words(
            """
For further assistance, please send mail to postmaster.

If you do so, please include this problem report. You can
delete your own text from the attached returned message.
""",
            """
If you need help, please write to postmaster, and include this
report. The attached message may be left out.
""",
        ),
        _words(
            """
####################################################################
# THIS IS A WARNING ONLY.  YOU DO NOT NEED TO RESEND YOUR MESSAGE. #
####################################################################

Your message could not be delivered for more than 0 hour(s).
It will be retried until it is 5 day(s) old.
""",
            """
** This is only a warning. There is no need to send your message again. **

Your message has been waiting for more than 0 hour(s) for
the recipients below. It will be tried until it is 5 day(s) old.
""",
        ),
        _words(
            """
Your message was successfully delivered to the destination(s)
listed below. If the message was delivered to mailbox you will
receive no further notifications. Otherwise you may still receive
notifications of mail delivery errors from other systems.
""",
            """
Your message was delivered as told below. Where it is in a mailbox,
this is the last you hear of it. Where it went on to another system,
that system may still report a failure.
""",
        ),
        _words("Enclosed is the mail delivery report that you requested.", "Here is the report that you asked for."),
    ],
    "NOTIFY of notices": [Change(_NOTICE, r"^(MAIL FROM:<> .*\nRCPT .*)$", r"\1 NOTIFY=NEVER")],
    "ORCPT of odd addresses": [
        Varying(r"next hop: .*(?:address-(?:dotted|literal|quoted|route|umlaut)|<\"odd sender).*", r" ORCPT=\S+"),
    ],
    "Notices about UTF-8 mail": [
        Varying(r"next hop: <> <utf8-.*", r"report-type=[a-z-]+;$"),
        Varying(r"next hop: <> <utf8-.*", r"but was not offered\s+by\s+host"),
    ],
    "SMTPUTF8 without being asked": [
        Change("next hop: .*address-umlaut-local-smtp.*", r"^(MAIL FROM:\S+ SIZE=N)$", r"\1 SMTPUTF8"),
    ],
    "8-bit mail": [
        Change(
            "next hop: .*(?:bounce-eight-bit|content-eight-bit).*", r"^(MAIL FROM:<.+> SIZE=N) BODY=8BITMIME$", r"\1"
        ),
        Other("next hop: .*eight-bit-seven.*"),
    ],
    "The relay service in the log": [Change("log: .*", r"^relay/smtp: ", "smtp: ")],
    "Deferrals by the queue manager": [
        Change("log: .*", r"^error: (.*\(delivery temporarily suspended: .*)$", r"qmgr: \1"),
    ],
    "Own addresses as domains": [Other(r"(?:ledger|log|mailbox alice|next hop): .*address-literal-own.*")],
    "Routes on sendmail's command line": [Other(r"(?:ledger|log|next hop): .*address-route-sendmail.*")],
    "sendmail -bv": [Other(r"(?:log: bv|next hop: <> <bv@.*)")],
    "What sendmail complains of": [
        Other("log without message: sendmail"),
        Change("answer: bad-option", r"^(sendmail: invalid option -- 'E'\n)\1", r"\1"),
    ],
    "Size of messages without a last newline": [Change("log: content-no-newline-sendmail", "size=416", "size=414")],
    "Long lines": [Change("log: content-long-line-.*", r"^smtp: .*: breaking line > 998 bytes .*\n")],
    "Full name of local submissions": [Change("postcat .*", r"^sender_fullname: \n")],
    "The server's own address in queue files": [
        Change("postcat .*", r"^named_attribute: server_address=.*\nnamed_attribute: server_port=25\n"),
    ],
    "Notices nobody wants": [
        Change(
            "log: UNKNOWN-ID",
            r"(?s)^cleanup: UNKNOWN-ID: message-id=<UNKNOWN-ID@mail\.here\.example>\n"
            r"cleanup: UNKNOWN-ID: removed \(canceled\)(?:\n|\Z)",
        ),
    ],
    "Addresses that begin with a hyphen": [
        Change("log without message: smtpd", r"\n1 x smtpd: warning: Illegal address syntax .* command: <-ok@.*>$"),
        Change(
            "log without message: smtpd",
            r"^(1 x smtpd: NOQUEUE: reject: RCPT from \S+: )(?=550 5\.1\.1 <nobody-there@)",
            r"\g<1>501 5.1.3 Bad recipient address syntax; from=<address-dash-smtp@address-dash-smtp.sender.example> "
            r"to=<-ok@address-dash-smtp.sink.example> proto=ESMTP helo=<client.example>\n\1",
        ),
    ],
    "Warnings about configuration and DNS": [
        Other("log without message: (?:bounce|error|resolver)"),
        Change("log without message: smtp", r"\n1 x smtp: warning: no MX host for .*"),
    ],
    "Lines of programs that pyfix does not have": [
        Other("log without message: (?:master|postfix-script)"),
    ],
}
