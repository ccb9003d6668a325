"""local: delivers to the mailboxes of this machine's account.

Description
    A delivery names recipients of one message. Each is looked up in the user database, with the address extension
    behind recipient_delimiter taken off, and gets the message in home_mailbox, else in mail_spool_directory: a Maildir
    where the parameter ends in ``/``, else an mbox file. Return-Path, X-Original-To and Delivered-To are put on
    top. A message that says it was delivered to the recipient before is a loop, and is bounced.

Protocol
    Serves io.pyfix.Delivery. A process is forked for each connection and serves it until it closes or max_idle
    passes.

Security
    Runs as root, with CAP_SETUID and CAP_SETGID only, and does all work on files as the recipient: effective user,
    effective group, no other group. It goes on as that user until it is to be another, or root, who looks users up. In
    a spool directory that its group may write to, that group is the effective one. In one that nobody but root may
    write to, a mailbox that is missing is made by root and given to its user, which takes CAP_CHOWN: without it the
    mail waits. Started as another user, it delivers to that user alone.
    Files in the way that could redirect the mail are refused (pyfix.system.mailbox). The message is a descriptor that
    is open for reading only. No command is run.

Standards
    RFC 5321 section 4.4 (Return-Path); maildir(5); RFC 4155 (mbox).

Diagnostics
    A line for each recipient, as Postfix's local(8) writes it. Trouble of this system defers mail.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import NoReturn

from pyfix.conf.config import Config
from pyfix.conf.version import VERSION
from pyfix.deliver import mbox
from pyfix.deliver.destination import Destination, Rights, destination, spool_rights
from pyfix.deliver.failure import mailbox_status
from pyfix.deliver.outcome import Result, outcome
from pyfix.deliver.recipient import local_recipient
from pyfix.deliver.trace import delivered_addresses, is_loop, read_header, trace_lines
from pyfix.mail.address import split_address
from pyfix.service.blocking import serve_blocking
from pyfix.service.delivery import INTERFACE, Deliver, Delivered, Outcome, Recipient
from pyfix.service.dispatch import Call, Implementation
from pyfix.service.forking import ForkingRole, Serve, run_forking_role
from pyfix.service.outcomes import OutcomeLog
from pyfix.spool.content import read_content
from pyfix.spool.record import CorruptFile
from pyfix.system import account, mailbox
from pyfix.system.clock import monotonic, now_usec, utc_offset
from pyfix.system.journal import Journal

_MOMENT = 1.0
# Their mail is not returned where nobody has made an alias: a notice about it would come back to them.
_REQUIRED = frozenset({"mailer-daemon", "postmaster"})


class LocalAgent:
    """Delivers as the configuration says. After a delivery the actor may still be who it was for."""

    def __init__(self, conf: Config, journal: Journal, actor: account.Actor) -> None:
        self._journal = journal
        self._outcomes = OutcomeLog(journal, conf)
        self._actor = actor
        # the address whose user was found last, when that was, and what was found
        self._known: tuple[str, float, tuple[account.Account, Destination] | None] = ("", 0.0, None)
        self._delimiters = conf.text("recipient_delimiter")
        self._owner_request_special = conf.boolean("owner_request_special")
        self._home_mailbox = conf.text("home_mailbox")
        self._spool = conf.text("mail_spool_directory")
        self._require_home = conf.boolean("require_home_directory")
        self._strict_owner = conf.boolean("strict_mailbox_ownership")
        self._original_lines = conf.boolean("enable_original_recipient")
        self._delivered_lines = "file" in conf.words("prepend_delivered_header")
        self._host = conf.text("myhostname")
        self._size_limit = _size_limit(conf)
        self._locks = mailbox.Locks(
            conf.words("mailbox_delivery_lock"),
            conf.integer("deliver_lock_attempts"),
            conf.seconds("deliver_lock_delay"),
            conf.seconds("stale_lock_time"),
        )

    def deliver(self, call: Call[Deliver]) -> Delivered:
        """Delivers to every recipient of a request."""
        request = call.parameters
        message = call.take_fd(request.message)
        try:
            return Delivered(tuple([self._deliver_and_log(request, message, r) for r in request.recipients]))
        finally:
            os.close(message)

    def _deliver_and_log(self, request: Deliver, message: int, recipient: Recipient) -> Outcome:
        start = now_usec()
        try:
            result = self._to_recipient(request, message, recipient)
        except CorruptFile as error:
            self._journal.warning(str(error), request.queue_id)
            result = Result("4.3.0", "message file is corrupt")
        except mailbox.MailboxError as error:
            result = Result(mailbox_status(error.errno), error.reason)
        except OSError as error:
            result = Result("4.3.0", f"error reading message: {error.strerror}")
        return self._outcomes.settle(request, recipient, outcome(recipient, result), (start, start, now_usec()))

    def _to_recipient(self, request: Deliver, message: int, recipient: Recipient) -> Result:
        content = read_content(message, request.content_offset)
        header, begin = read_header(content)
        if is_loop(delivered_addresses(header), recipient.address):
            return Result("5.4.6", f"mail forwarding loop for {recipient.address}")
        found = self._user_and_mailbox(recipient.address)
        if isinstance(found, Result):
            return found
        user, target = found
        if request.verify:
            return Result("2.0.0", f"delivers to {'maildir' if target.kind == 'maildir' else 'mailbox'}")
        original = (recipient.original or recipient.address) if self._original_lines else ""
        lines = trace_lines(request.sender, original, recipient.address if self._delivered_lines else "")
        self._actor.act_as(user.uid, user.gid)
        if (target.in_home or self._require_home) and (trouble := _home_trouble(user.home)):
            return Result("4.3.0", trouble)
        if target.kind == "maildir":
            return self._to_maildir(target, lines + begin, content)
        self._actor.be_itself()
        lines = mbox.from_line(request.sender, _local_time()) + lines
        return self._to_mbox(user, target, lines, chain([begin], content))

    def _user_and_mailbox(self, address: str) -> tuple[account.Account, Destination] | Result:
        """As _look_up(). What was found is believed for a moment: mail for somebody often comes in bursts."""
        now = monotonic()
        known, when, found = self._known
        if found is not None and known == address and now - when <= _MOMENT:
            return found
        looked_up = self._look_up(address)
        if not isinstance(looked_up, Result):
            self._known = (address, now, looked_up)
        return looked_up

    def _look_up(self, address: str) -> tuple[account.Account, Destination] | Result:
        """Whom an address names, and that user's mailbox; or why there is no delivery."""
        local_part = split_address(address)[0]
        name = local_recipient(local_part, self._delimiters, owner_request_special=self._owner_request_special).user
        if not name:
            return Result("5.1.3", f'null username in "{address}"')
        self._actor.be_itself()
        try:
            user = None if "/" in name else account.by_name(name)
        except OSError as error:
            self._journal.warning(f"error looking up passwd info for {name}: {error.strerror}")
            return Result("4.0.0", "user lookup error")
        if user is None and name in _REQUIRED:
            self._journal.warning(f"required alias not found: {name}")
            return Result("2.0.0", "discarded")
        if user is None:
            return Result("5.1.1", f'unknown user: "{name}"')
        if not self._actor.may_act_as(user.uid):
            return Result("4.3.0", f'uid {os.geteuid()} may not deliver to user "{name}": the local role is not root')
        return user, destination(user.name, user.home, self._home_mailbox, self._spool)

    def _to_maildir(self, target: Destination, begin: bytes, content: Iterator[bytes]) -> Result:
        try:
            mailbox.deliver_to_maildir(target.path, self._host, _whole_lines(begin, content), self._size_limit)
        except mailbox.MailboxError as error:
            return Result(mailbox_status(error.errno), f"maildir delivery failed: {error.reason}")
        return Result("2.0.0", "delivered to maildir")

    def _to_mbox(self, user: account.Account, target: Destination, lines: bytes, content: Iterator[bytes]) -> Result:
        try:
            box = mailbox.Mbox.open(target.path, self._locks, _identities(user, self._mbox_rights(user, target)))
            try:
                if not box.is_regular:
                    return Result("5.2.0", f"destination {target.path} is not a regular file")
                if self._strict_owner and box.owner != user.uid:
                    return Result("4.2.0", f"destination {target.path} is not owned by recipient")
                box.append(chain([lines], mbox.escape(content)), self._size_limit)
            finally:
                box.release()
        except mailbox.MailboxError as error:
            reason = f"cannot update mailbox {target.path} for user {user.name}. {error.reason}"
            return Result(mailbox_status(error.errno), reason)
        return Result("2.0.0", "delivered to mailbox")

    def _mbox_rights(self, user: account.Account, target: Destination) -> Rights:
        if target.in_home or os.geteuid() != 0:
            return Rights(user.uid, user.gid, give_away=False)
        try:
            status = os.stat(self._spool)
        except OSError:
            # Opening the mailbox will meet the same trouble and name it.
            return spool_rights(None, 0, user.uid, user.gid)
        return spool_rights(status.st_mode, status.st_gid, user.uid, user.gid)


def _identities(user: account.Account, rights: Rights) -> mailbox.Identities:
    """Who opens and writes a mailbox file, and who makes and locks it."""
    maker = partial(account.acting_as, rights.uid, rights.gid)
    if rights.give_away:
        owner = partial(account.acting_as, user.uid, user.gid)
        return mailbox.Identities(owner, maker, (user.uid, user.gid))
    return mailbox.Identities(maker, maker)


def _size_limit(conf: Config) -> int:
    limit, message = conf.integer("mailbox_size_limit"), conf.integer("message_size_limit")
    if limit and (message == 0 or limit < message):
        raise conf.error("mailbox_size_limit", "is smaller than message_size_limit")
    return limit


def _home_trouble(home: str) -> str:
    try:
        os.stat(f"{home}/.")
    except OSError as error:
        return f"cannot access home directory {home}: {error.strerror}"
    return ""


def _whole_lines(begin: bytes, content: Iterator[bytes]) -> Iterator[bytes]:
    """The beginning, the rest of the content, and a LF where that does not end in one."""
    yield begin
    last = begin
    for last in content:
        yield last
    if not last.endswith(b"\n"):
        yield b"\n"


def _local_time() -> tuple[int, int, int, int, int, int, int]:
    now = now_usec() // 1_000_000
    return time.gmtime(now + utc_offset(now))[:7]


def start(role: ForkingRole) -> Serve:
    """Wires the role: what serves a connection in its own process."""
    agent = LocalAgent(role.conf, role.journal, account.Actor())
    max_idle = role.conf.seconds("max_idle")

    def serve(sock: socket.socket) -> None:
        def on_term(_number: int, _frame: object) -> None:
            # The delivery at hand is finished and answered; then the connection reads as closed.
            if sock.fileno() >= 0:
                sock.shutdown(socket.SHUT_RD)

        signal.signal(signal.SIGTERM, on_term)
        serve_blocking(Implementation(INTERFACE, {"Deliver": agent.deliver}, VERSION), sock, max_idle)

    return serve


def main() -> NoReturn:
    """The role's main function."""
    run_forking_role("local", start, __doc__)


if __name__ == "__main__":
    main()
