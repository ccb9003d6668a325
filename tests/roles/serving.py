"""A role's start function run in the test's own event loop, with a real socket and no process."""

import asyncio
import os
import socket
from contextlib import contextmanager
from pathlib import Path

from pyfix.conf.config import Config
from pyfix.conf.main_cf import Assignment
from pyfix.service.client import Client
from pyfix.service.dispatch import Implementation
from pyfix.service.interface import Interface
from pyfix.service.server import Server
from pyfix.system.journal import Journal


class Log(Journal):
    """A journal that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, event) -> None:
        self.lines.append(event.message)


class FakeRole:
    """What a start function needs of a Role. ``peers`` are the services that it calls: interface to handlers."""

    def __init__(self, directory: Path, parameters=None) -> None:
        self.directory = directory
        self.journal = Log()
        self.on_reload: list = []
        self.on_stop: list = []
        self.work = 0
        self.stopped = asyncio.Event()
        self._idle = asyncio.Event()
        self.bugs: list[BaseException] = []
        settings = {"queue_directory": str(directory / "spool"), "myhostname": "mx.example.org"} | (parameters or {})
        os.makedirs(settings["queue_directory"], exist_ok=True)
        self.conf = Config(str(directory), [Assignment(name, value, "main.cf", 1) for name, value in settings.items()])
        self._servers: list[Server] = []
        self._clients: list[Client] = []
        self._tasks: list[asyncio.Task] = []

    def implement(self, interface: Interface, handlers, *, per_uid_limit: int = 0) -> None:
        """Serves the interface on a socket in the test's directory."""
        server = Server(Implementation(interface, handlers), self.bugs.append)
        self._servers.append(server)
        loop = asyncio.get_running_loop()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(self.path(interface))
        listener.listen(100)

        async def accept() -> None:
            with listener:
                while True:
                    sock, _ = await loop.sock_accept(listener)
                    sock.setblocking(False)
                    server.accept(loop, sock)

        self._tasks.append(loop.create_task(accept()))

    def path(self, interface: Interface) -> str:
        return str(self.directory / interface.name)

    def client(self, interface: Interface, role: str = "", timeout: float = 10) -> Client:
        client = Client(interface, self.path(interface), timeout)
        self._clients.append(client)
        return client

    def begin_work(self) -> None:
        self.work += 1

    def end_work(self) -> None:
        self.work -= 1
        if not self.work:
            self._idle.set()

    @contextmanager
    def busy(self):
        self.begin_work()
        try:
            yield
        finally:
            self.end_work()

    def bug(self, error: BaseException) -> None:
        self.bugs.append(error)

    async def idle(self) -> None:
        """Waits until no work is going on."""
        while self.work:
            self._idle.clear()
            await self._idle.wait()

    def stop(self) -> None:
        self.stopped.set()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            client.close()
        for server in self._servers:
            server.close()
        if self.bugs:
            raise self.bugs[0]


def run(directory: Path, scenario, **parameters: str) -> FakeRole:
    """Runs a coroutine function with a FakeRole; the role."""

    async def main() -> FakeRole:
        role = FakeRole(directory, parameters)
        try:
            async with asyncio.timeout(20):
                await scenario(role)
        finally:
            await role.close()
        return role

    return asyncio.run(main())
