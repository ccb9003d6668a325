"""Memory is bounded by limits, not by load: a large message streams, idle connections are cheap."""

import asyncio
import os
import pwd
import resource
import smtplib
import socket
import threading

import load
import pytest
from ledger import body_digest
from system_under_test import SystemUnderTest

pytestmark = pytest.mark.system

MIB = 1024 * 1024
USER = pwd.getpwuid(os.getuid()).pw_name


class Peak:
    """The highest resident size of each process while it runs, in a thread."""

    def __init__(self, processes):
        self._processes = {f"{name} {p.pid}": p for name, group in processes.items() for p in group}
        self.start = self._sizes()
        self.peak = dict(self.start)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _sizes(self):
        return {name: p.memory_info().rss for name, p in self._processes.items() if p.is_running()}

    def _watch(self):
        while not self._end.wait(0.02):
            for name, size in self._sizes().items():
                self.peak[name] = max(self.peak[name], size)

    def growth(self):
        """MiB by process."""
        self._end.set()
        self._thread.join()
        return {name: (self.peak[name] - self.start[name]) / MIB for name in self.start}


def start_sink(on_message):
    """A next host in a thread; its port and a function that ends it."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(load.sink(on_message))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def stop():
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()

    return server.sockets[0].getsockname()[1], stop


def test_a_message_of_50_mb_streams_through_every_role(tmp_path):
    """From SMTP to the next host and into a Maildir, byte for byte, no role growing by more than 8 MiB."""
    arrived = []
    port, stop = start_sink(lambda content, _: arrived.append(body_digest(content)))
    settings = f"relayhost = [127.0.0.1]:{port}\nmessage_size_limit = 100000000\nmailbox_size_limit = 0\n"
    try:
        with SystemUnderTest(tmp_path / "system", settings) as system:
            recipients = ["far@example.net", f"{USER}@mail.example.com"]

            def send(content):
                with smtplib.SMTP("127.0.0.1", system.smtp_port, timeout=120) as smtp:
                    smtp.sendmail("big@example.com", recipients, content)
                system.wait_empty()

            send(load.message("small", 1000))  # every role is started and warm
            content = load.message("big", 50_000_000)
            peak = Peak(system.roles())
            send(content)
            growth = peak.growth()
            assert arrived[-1] == body_digest(content)
            assert body_digest(system.maildir(USER)[-1]) == arrived[-1]
            assert {"smtpd", "cleanup", "qmgr", "smtp", "local"} <= {name.split()[0] for name in growth}
            assert {name: round(mib, 1) for name, mib in growth.items() if mib > 8} == {}
    finally:
        stop()


def test_a_thousand_idle_connections_are_cheap(tmp_path):
    """1,000 greeted connections take less than 40 MiB more in smtpd, and the next client is served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = []
    try:
        with SystemUnderTest(tmp_path / "system", "smtpd_client_connection_count_limit = 0\n") as system:
            before = sum(p.memory_info().rss for p in system.roles()["smtpd"])
            address = ("127.0.0.1", system.smtp_port)
            held.extend(socket.create_connection(address, timeout=30) for _ in range(1000))
            for sock in held:
                assert sock.recv(200).startswith(b"220 ")
                sock.sendall(b"EHLO idle.example.com\r\n")
            for sock in held:
                assert sock.recv(1000).startswith(b"250-")
            grown = (sum(p.memory_info().rss for p in system.roles()["smtpd"]) - before) / MIB
            assert grown < 40
            with smtplib.SMTP("127.0.0.1", system.smtp_port, timeout=30) as smtp:
                assert smtp.noop()[0] == 250
    finally:
        for sock in held:
            sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
