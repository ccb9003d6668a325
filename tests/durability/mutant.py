"""Mutants: systems with a fault built in. A test that does not notice them proves nothing.

A mutant is a sitecustomize.py that the roles named find on their way in; it changes what they do, not their files.
"""

from typing import NamedTuple

from system_under_test import ROOT


class Mutant(NamedTuple):
    """What is wrong, in which roles, and the source of it."""

    name: str
    roles: tuple[str, ...]
    source: str


_STORES = ("bounce", "cleanup", "postdrop")

_NO_KERNEL_SYNC = """
import errno
from pyfix.system import kernel

def refuse(_syncs, _room):
    raise OSError(errno.ENOSYS, "no kernel sync")

kernel.KernelSync.__init__ = refuse
"""
"""All syncs are calls of os.fsync."""

NO_KERNEL_SYNC = Mutant("without the kernel's syncs", ("bounce", "cleanup", "local"), _NO_KERNEL_SYNC)
"""No mutant, but a system where the kernel does not sync on its own, or a sandbox forbids it."""

NO_FSYNC = Mutant("no fsync", _STORES, f"{_NO_KERNEL_SYNC}\nimport os\nos.fsync = lambda _: None\n")

_SYNCS_NOTHING = """
import os
from pyfix.system.kernel import KernelSync

def begin(kernel, syncs):
    tags = [(tag, 0) for _, tag in syncs]
    kernel.begun = getattr(kernel, "begun", []) + tags
    os.eventfd_write(kernel.fileno(), 1)
    return len(tags)

def ended(kernel, at_least=0):
    os.eventfd_read(kernel.fileno())
    tags, kernel.begun = kernel.begun, []
    return tags

KernelSync.begin, KernelSync.ended = begin, ended
"""

NOTHING_SYNCED = Mutant("says synced what the kernel did not sync", ("cleanup",), _SYNCS_NOTHING)
NO_MAILDIR_SYNC = Mutant("syncs neither message nor directory", ("local",), _SYNCS_NOTHING)
"""On ext4 and xfs one of the two would do."""

DEAF_TO_KERNEL = Mutant("takes a failed sync of the kernel's for a good one", ("cleanup",), """
from pyfix.system.kernel import KernelSync

ended = KernelSync.ended
KernelSync.ended = lambda kernel, at_least=0: [(tag, 0) for tag, _ in ended(kernel, at_least)]
""")  # fmt: skip

EARLY = Mutant("acknowledges before the fsync", _STORES, _NO_KERNEL_SYNC + """
import os, threading

sync = os.fsync

def late(descriptor):
    copy = os.dup(descriptor)
    threading.Timer(0.5, lambda: (sync(copy), os.close(copy))).start()

os.fsync = late
""")  # fmt: skip

INVISIBLE = Mutant("makes visible after the fsync", _STORES, _NO_KERNEL_SYNC + """
import os

sync, change, modes = os.fsync, os.fchmod, {}
os.fchmod = modes.__setitem__

def sync_first(descriptor):
    sync(descriptor)
    if descriptor in modes:
        change(descriptor, modes.pop(descriptor))

os.fsync = sync_first
""")  # fmt: skip

NO_MAILBOX_FSYNC = Mutant("no fsync of the mailbox", ("local",), """
import os, stat

sync = os.fsync
os.fsync = lambda file: sync(file) if stat.S_ISDIR(os.fstat(file).st_mode) else None
""")  # fmt: skip

NAMED_TOO_EARLY = Mutant("a name in the Maildir before the disk has the message", ("local",), """
from pyfix.system import kernel

kernel.push = lambda _: None
""")  # fmt: skip

EARLY_RELAY = Mutant("says sent before the next host does", ("smtp",), """
import sys

if "pyfix.roles.smtp" in " ".join(sys.orig_argv):
    import asyncio

    from pyfix.roles.smtp import Agent, Run
    from pyfix.service.delivery import Delivered, Outcome

    tasks = set()

    async def later(run):
        # long enough for the queue to forget it
        await asyncio.sleep(2)
        await run.deliver()

    async def deliver(agent, call, request):
        descriptor = call.take_fd(request.message)
        tasks.add(asyncio.create_task(later(Run(agent, request, descriptor))))
        return Delivered(tuple(Outcome(r.offset, "sent", "2.0.0", "soon") for r in request.recipients))

    Agent.deliver = deliver
""")  # fmt: skip

NO_NOTICE_FSYNC = Mutant("no fsync of notices", ("cleanup",), _NO_KERNEL_SYNC + """
import os

sync = os.fsync
os.fsync = lambda file: None if b"S\\x00" in os.pread(file, 300, 0) else sync(file)
""")  # fmt: skip

LATE_COMMIT = Mutant("acknowledges before the message is visible", ("cleanup",), """
import sys

if "pyfix.roles.cleanup" in " ".join(sys.orig_argv):
    import asyncio

    from pyfix.roles.cleanup import Transaction

    commit, tasks = Transaction.commit, set()

    async def late(transaction, flusher):
        await asyncio.sleep(0.3)
        await commit(transaction, flusher)

    async def early(transaction, flusher):
        tasks.add(asyncio.create_task(late(transaction, flusher)))

    Transaction.commit = early
""")  # fmt: skip

DEAF_TO_FSYNC = Mutant("takes a failed fsync for a good one", ("cleanup", "postdrop"), _NO_KERNEL_SYNC + """
import os

sync = os.fsync

def deaf(descriptor):
    try:
        sync(descriptor)
    except OSError:
        pass

os.fsync = deaf
""")  # fmt: skip

DEAF_TO_WRITE = Mutant("takes a failed write for a good one", ("cleanup", "postdrop"), """
import os

write = os.write

def deaf(descriptor, data):
    try:
        return write(descriptor, data)
    except OSError:
        return len(data)

os.write = deaf
""")  # fmt: skip

LEAVES_PARTS = Mutant("leaves what it could not complete", ("cleanup", "postdrop"), """
import os

os.unlink = os.remove = lambda *_, **__: None
""")  # fmt: skip


def install(system, mutant):
    """Makes a system that was not started the mutant."""
    site = system.directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(mutant.source)
    for role in mutant.roles:
        dropin = system.etc / "systemd" / f"pyfix-{role}.service.d"
        dropin.mkdir(parents=True, exist_ok=True)
        (dropin / "mutant.conf").write_text(f"[Service]\nEnvironment=PYTHONPATH={site}:{ROOT}\n")
