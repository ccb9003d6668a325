"""The world of the queue manager: a queue, and services that do as a test says."""

import asyncio
import os
import socket
import time

from roles.serving import FakeRole, Log

from pyfix.roles import qmgr
from pyfix.service import bounce, delivery, rewrite
from pyfix.service.bounce import Notified
from pyfix.service.client import Client
from pyfix.service.delivery import Delivered, Outcome
from pyfix.service.dispatch import Implementation
from pyfix.service.interface import Nothing
from pyfix.service.queue import CONTROL, QUEUE, Announce, Change, Flush
from pyfix.service.rewrite import Resolved, ResolveReply, Rewritten
from pyfix.service.server import Server
from pyfix.spool import log
from pyfix.spool.content import read_content
from pyfix.spool.directories import Spool
from pyfix.spool.envelope import NewMessage, NewRecipient
from pyfix.spool.log import LogEntry
from pyfix.spool.queue_file import QueueFileWriter, read_envelope
from pyfix.spool.queue_id import QueueIds

CONTENT = b"Subject: x\n\nhello\n"


class Journal(Log):
    """A log that knows of ends, too."""

    def fatal(self, message):
        self.lines.append(f"fatal: {message}")


class World(FakeRole):
    """A role for qmgr, with a rewrite service, a bounce service and agents that can be changed on the way.

    ``answer(request)`` gives the reply of every agent, as a value or a coroutine; ``resolve(address)`` an answer of
    the rewrite service.
    """

    def __init__(self, directory, parameters=None):
        super().__init__(directory, parameters)
        self.journal = Journal()
        self.spool = Spool(self.conf.text("queue_directory"))
        self.spool.make_directories()
        self.ids = QueueIds()
        self.answer = sent
        self.resolve = by_domain
        self.requests = []
        self.contents = []
        self.notices = []
        self.bounce_works = self.notify_works = True
        self.crashes = []
        self._started = asyncio.Event()
        self._listeners = []
        self.calls = []

    def begin_work(self):
        super().begin_work()
        self._started.set()

    # Services

    def client(self, interface, role, timeout=10):
        client = Client(interface, str(self.directory / f"{role}.{interface.name}"), timeout)
        self._clients.append(client)
        return client

    def serve(self, role, interface, handlers):
        """Serves an interface as another role."""
        self._listen(str(self.directory / f"{role}.{interface.name}"), interface, handlers, self.crashes.append)

    def implement(self, interface, handlers, **_limits):
        """Serves an interface of the role under test, and notes what is called."""

        def noting(name, handler):
            def note(call):
                self.calls.append(name)
                return handler(call)

            return note

        noted = {name: noting(name, handler) for name, handler in handlers.items()}
        self._listen(self.path(interface), interface, noted, self.bug)

    def _listen(self, path, interface, handlers, on_bug):
        server = Server(Implementation(interface, handlers), on_bug)
        self._servers.append(server)
        loop = asyncio.get_running_loop()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(path)
        listener.listen(100)

        def accept():
            sock, _ = listener.accept()
            sock.setblocking(False)
            server.accept(loop, sock)

        loop.add_reader(listener.fileno(), accept)
        self._listeners.append(listener)

    async def send_into(self, gate, *addresses):
        """Starts with a message that the gate holds; its ID."""
        self.answer = gate
        await self.start()
        queue_id = await self.send(*addresses)
        await self.until(lambda: gate.waiting)
        return queue_id

    async def close(self):
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener.fileno())
            listener.close()
        await super().close()

    async def start(self, transports=("smtp", "local")):
        """Starts the services and the queue manager."""
        for transport in transports:
            self.serve(transport, delivery.INTERFACE, {"Deliver": self._deliver})
        self.serve("rewrite", rewrite.INTERFACE, {"Resolve": self._resolve, "Rewrite": lambda _: Rewritten(())})
        self.serve("bounce", bounce.INTERFACE, {"Append": self._append, "Notify": self._notify})
        await qmgr.start(self)

    async def _deliver(self, call):
        request = call.parameters
        self.requests.append(request)
        fd = call.take_fd(request.message)
        try:
            self.contents.append(b"".join(read_content(fd, request.content_offset)))
        finally:
            os.close(fd)
        reply = self.answer(request)
        return await reply if asyncio.iscoroutine(reply) else reply

    def _resolve(self, call):
        answers = (self.resolve(address) for address in call.parameters.recipients)
        return ResolveReply(tuple(answer for answer in answers if answer))

    def _append(self, call):
        if not self.bounce_works:
            raise ZeroDivisionError
        entries = [
            LogEntry(*(getattr(e, name) for name in LogEntry.__struct_fields__)) for e in call.parameters.entries
        ]
        log.addition(self.spool, call.parameters.log, call.parameters.queue_id, entries).commit()
        return Nothing()

    def _notify(self, call):
        if not self.notify_works:
            raise ZeroDivisionError
        queue_id = call.parameters.queue_id
        fd = call.take_fd(call.parameters.message)
        os.close(fd)
        name = {"failure": "bounce", "delay": "defer"}.get(call.parameters.kind, "trace")
        self.notices.append((call.parameters, list(log.read(self.spool, name, queue_id))))
        if name != "defer":
            self.spool.remove(name, queue_id)
        return Notified("NOTICE")

    # The queue

    def put(self, *recipients, queue="incoming", sender="ada@example.org", age=0.0, due=None, notify=0, **envelope):
        """Stores a message; its queue ID."""
        now = time.time()
        queue_id = self.ids.new(int(now * 1_000_000))
        writer = QueueFileWriter(self.spool.create(queue_id, queue))
        writer.begin(
            NewMessage(
                sender=sender,
                arrival_usec=int((now - age) * 1_000_000),
                create_time=int(now - age),
                recipients=tuple(NewRecipient(address, notify=notify) for address in recipients),
                attributes={"rewrite_context": "local"} | envelope.pop("attributes", {}),
                **envelope,
            )
        )
        writer.write_content(CONTENT)
        writer.finish()
        writer.commit()
        if due is not None:
            self.spool.set_retry_time(queue, queue_id, due)
        return queue_id

    def where(self, queue_id):
        """The queue that holds the message, None if there is none."""
        return self.spool.queue_of(queue_id, ("incoming", "active", "deferred", "hold", "corrupt", "maildrop"))

    def left(self, queue_id):
        """The recipients that are still to be served."""
        fd = self.spool.open(self.where(queue_id), queue_id)
        try:
            return [r.address for r in read_envelope(fd).recipients]
        finally:
            os.close(fd)

    def logged(self, name, queue_id):
        """The recipients and reasons in a log."""
        return [(e.recipient, e.status, e.reason) for e in log.read(self.spool, name, queue_id)]

    # Asking the queue manager

    async def send(self, *recipients, **options):
        """Stores a message and announces it; its queue ID."""
        queue_id = self.put(*recipients, **options)
        await self.announce(queue_id)
        return queue_id

    async def announce(self, queue_id):
        """Whether the queue manager says that it is behind."""
        return (await self._ask(QUEUE, "Announce", Announce(queue_id))).crowded

    async def flush(self, *queue_ids, wanted=True):
        await self._ask(QUEUE, "Flush", Flush(queue_ids, wanted))

    async def change(self, action, *queue_ids, queues=()):
        return (await self._ask(CONTROL, "Change", Change(action, queue_ids, queues))).queue_ids

    async def _ask(self, interface, method, parameters):
        client = Client(interface, self.path(interface), 10)
        try:
            self._started.clear()
            return await client.call(method, parameters)
        finally:
            client.close()

    async def quiet(self):
        """Waits until the queue manager has begun to work and has nothing left to do."""
        if not self.work:
            await self._started.wait()
        await self.idle()

    async def until(self, condition):
        """Waits until something is so."""
        while not condition():  # noqa: ASYNC110 -- of files, which tell nobody
            await asyncio.sleep(0.002)


def by_domain(address):
    """example.com goes out, all else is local."""
    domain = address.rpartition("@")[2]
    if domain.endswith("here"):
        return Resolved(address, "local", domain, "local")
    return Resolved(address, "smtp", domain, "default")


def outcomes(request, status, dsn, reason, **reply):
    return Delivered(tuple(Outcome(r.offset, status, dsn, reason) for r in request.recipients), **reply)


def sent(request):
    return outcomes(request, "sent", "2.0.0", "250 ok")


def deferred(request):
    return outcomes(request, "deferred", "4.2.0", "greylisted")


def bounced(request):
    return outcomes(request, "bounced", "5.1.1", "unknown user")


def unreachable(request):
    return outcomes(
        request, "deferred", "4.4.1", "connect: refused", unreachable_dsn="4.4.1", unreachable="connect: refused"
    )


def run(directory, scenario, **parameters):
    """Runs a coroutine function with a World whose queue manager it starts; the World."""

    async def main():
        world = World(directory, parameters)
        try:
            async with asyncio.timeout(20):
                await scenario(world)
                for stop in world.on_stop:
                    await stop()
        finally:
            await world.close()
        return world

    return asyncio.run(main())


def per_recipient(**answers):
    """An agent that answers by the recipient's local part."""

    def answer(request):
        outcomes = []
        for recipient in request.recipients:
            reply = answers[recipient.address.partition("@")[0]](request)
            outcomes += [o for o in reply.outcomes if o.offset == recipient.offset]
        return Delivered(tuple(outcomes))

    return answer


class Gate:
    """An agent that holds deliveries to some hosts until it is opened."""

    def __init__(self, *hosts, answer=sent):
        self.hosts = hosts
        self.answer = answer
        self.event = asyncio.Event()
        self.waiting = 0

    async def __call__(self, request):
        if request.nexthop in self.hosts:
            self.waiting += 1
            await self.event.wait()
        return self.answer(request)

    def open(self):
        self.event.set()
