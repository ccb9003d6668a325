"""A mail host: a machine from a tree with the package, as an administrator has it; its mail, its queue, its log."""

import json
import shlex

from machine.machine import Machine
from machine.tree import run_in

_LISTEN = "[Socket]\nListenStream=\nListenStream=25\n"
_SEND = """
import smtplib, sys
host, sender, recipient, message = sys.argv[1:]
server = smtplib.SMTP(host, local_hostname="client.example.com", timeout=60)
server.sendmail(sender, recipient, message)
server.quit()
"""


class MailHost(Machine):
    """``settings`` are main.cf's. It hears its network, and delivers to ~/Maildir/."""

    def __init__(self, tree, name, network, **settings):
        super().__init__(tree, name, network)
        self._settings = {"inet_interfaces": "all", "home_mailbox": "Maildir/"} | settings

    def _prepare(self):
        super()._prepare()
        self.write("/etc/systemd/system/pyfix-smtpd.socket.d/listen.conf", _LISTEN)
        run_in(self.root, "postconf", "-e", *_lines(self._settings))

    def set(self, **settings):
        """Changes parameters of main.cf; reload() makes them count."""
        self.run(["postconf", "-e", *_lines(settings)])

    def reload(self):
        """Reloads the mail system, and waits until all roles have done it."""
        self.run("systemctl reload pyfix")
        self.wait_until(lambda: not self.run("systemctl list-jobs --no-legend").stdout, "the end of the reload")

    def sendmail(self, user, recipient, message):
        """Submits a message as a user does."""
        self.run(["runuser", "-u", user, "--", "sendmail", "-i", recipient], input=message)

    def smtp(self, other, sender, recipient, message):
        """Sends a message to another host, with a program that is no part of pyfix."""
        self.python(_SEND, other.address, sender, recipient, message)

    def mailbox(self, user):
        """The messages in a user's Maildir."""
        return [path.read_text() for path in sorted((self.root / f"home/{user}/Maildir/new").glob("*"))]

    def queue(self):
        """The queue's messages, as ``postqueue -j`` has them."""
        return [json.loads(line) for line in self.run("postqueue -j").stdout.splitlines()]

    def wait_empty(self, timeout=60):
        """Waits for an empty queue."""
        self.wait_until(lambda: "is empty" in self.run("mailq").stdout, "an empty queue", timeout)

    def queue_id(self, message_id):
        """The queue ID of a message that cleanup has seen."""

        def found():
            entries = self.journal("-t", "pyfix/cleanup")
            ids = [e["PYFIX_QUEUE_ID"] for e in entries if e["MESSAGE"].endswith(f": message-id=<{message_id}>")]
            return ids[-1] if ids else None

        return self.wait_until(found, f"a message with the ID {message_id}")

    def story(self, queue_id):
        """What the journal says of a message: ``["smtpd: client=...", ...]``."""
        entries = self.journal(f"PYFIX_QUEUE_ID={queue_id}")
        return [
            f"{entry['SYSLOG_IDENTIFIER'].removeprefix('pyfix/')}: {entry['MESSAGE'].removeprefix(f'{queue_id}: ')}"
            for entry in entries
        ]

    def whole_story(self, queue_id, end="qmgr: removed"):
        """The story, when its last line is there."""

        def told():
            story = self.story(queue_id)
            return story if story and story[-1] == end else None

        return self.wait_until(told, f"{shlex.quote(end)} of {queue_id}")


def _lines(settings):
    return [f"{name}={value}" for name, value in settings.items()]
