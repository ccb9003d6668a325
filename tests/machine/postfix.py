"""A Debian 13 tree with Debian's own Postfix, for machines that stand beside pyfix's."""

from machine import tree as trees

_ANSWERS = "postfix postfix/main_mailer_type select Local only\npostfix postfix/mailname string mail.bench.test\n"
JOURNAL = "[Journal]\nRateLimitIntervalSec=0\nRateLimitBurst=0\nStorage=persistent\n"


def tree():
    return trees.with_packages("postfix", "postfix", answers=_ANSWERS)
