"""The driver and the check of the power cut test for Maildir: messages are delivered as local delivers them."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyfix.system.mailbox import deliver_to_maildir

MESSAGES, PARALLEL = 40, 2
_LINE = b"a line of the message, which is of some length\n"


def _content(number: int) -> bytes:
    return b"Subject: %d\n\n" % number + _LINE * (1 + number * 37 % 300)


class Deliver:
    """Delivers MESSAGES messages, PARALLEL at a time; marks each when it is delivered."""

    def prepare(self, root: Path) -> None:
        """The home directory is there; the Maildir in it is made by the first delivery."""
        (root / "home").mkdir()

    def drive(self, root: Path, mark: Callable[[bytes], None]) -> None:
        """Deliver the messages."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            for done in [pool.submit(self._deliver, root, number, mark) for number in range(MESSAGES)]:
                done.result()

    @staticmethod
    def _deliver(root: Path, number: int, mark: Callable[[bytes], None]) -> None:
        content = _content(number)
        deliver_to_maildir(str(root / "home/Maildir"), "host", [content[:100], content[100:]], 0)
        mark(hashlib.sha256(content).hexdigest().encode())


def violations(root: Path, marks: list[bytes]) -> list[str]:
    """What was delivered before the cut and is not in new/ after it, and what is there and is not whole."""
    whole = {hashlib.sha256(_content(number)).hexdigest(): number for number in range(MESSAGES)}
    found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in root.glob("home/Maildir/new/*")]
    torn = [digest for digest in found if digest not in whole]
    lost = [whole[mark.decode()] for mark in marks if mark.decode() not in found]
    return [f"message {number} is lost" for number in lost] + ["a message in new/ is torn" for _ in torn]
