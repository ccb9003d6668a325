"""Mail into machines from their network's side, and out of them, by processes of their own in the network's namespace.

usage: traffic.py send HOST SESSIONS RECIPIENT...
       traffic.py receive ADDRESS

Sends one message a connection over SESSIONS connections, which share the recipients, until standard input ends, and
prints what happened as JSON: "digests" of the bodies by key, "acknowledged" and "uncertain" keys, "refused": what
connect() said. Or receives at ADDRESS, until standard input ends, and prints keys and digests.
"""

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import load
from ledger import Ledger, body_digest, key_of

SIZE = 4096


class Traffic:
    """What was sent, when it is over."""

    def __init__(self):
        self.ledger = Ledger()
        self.refused = []
        self.acknowledged = 0

    def read(self, text):
        said = json.loads(text)
        self.refused = said["refused"]
        self.ledger.digests |= said["digests"]
        self.ledger.acknowledged |= set(said["acknowledged"])
        self.ledger.uncertain |= set(said["uncertain"])
        self.acknowledged = len(self.ledger.acknowledged)


@contextmanager
def traffic(network, host, *recipients, sessions=20):
    """Traffic from the network to a machine as long as the context lasts; the Traffic is complete at its end."""
    result = Traffic()
    with _process(network, result.read, "send", host, str(sessions), *recipients):
        yield result


@contextmanager
def sink(network):
    """A mail host at the network's gateway, which takes everything; a list of keys and digests, whole at the end."""
    arrived = []
    with _process(network, lambda text: arrived.extend(json.loads(text)), "receive", network.gateway):
        yield arrived


@contextmanager
def _process(network, on_end, *arguments):
    words = ["ip", "netns", "exec", network.name, sys.executable, __file__, *arguments]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield
        on_end(process.communicate(timeout=120)[0])
    finally:
        process.kill()
        process.wait()


def _until_the_end():
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, over.set)
    print("ready", flush=True)
    return over


async def send(host, recipients, sessions):
    ledger, refused = Ledger(), []
    over = _until_the_end()

    async def one_session(number):
        recipient = recipients[number % len(recipients)]
        count = 0
        while not over.is_set():
            count += 1
            key = f"m-{number}-{count}"
            content = load.message(key, SIZE)
            try:
                _, session = await asyncio.get_running_loop().create_connection(load.Session, host, 25)
            except OSError as error:
                refused.append(str(error))
                await asyncio.sleep(0.1)
                continue
            try:
                await session.hello()
                ledger.digests[key] = body_digest(content)
                ledger.uncertain.add(key)
                if await session.send(f"s{number}@example.com", recipient, content):
                    ledger.acknowledged.add(key)
                ledger.uncertain.discard(key)
                session.write(b"QUIT\r\n")
                await session.reply()
            except load.Lost:
                await asyncio.sleep(0.05)
            session.close()
            await asyncio.sleep(0.05)

    await asyncio.gather(*(one_session(number) for number in range(sessions)))
    print(json.dumps({
        "digests": ledger.digests, "acknowledged": sorted(ledger.acknowledged),
        "uncertain": sorted(ledger.uncertain), "refused": refused,
    }))  # fmt: skip


async def receive(address):
    arrived = []

    def take(content, _recipients):
        arrived.append((key_of(content), body_digest(content)))

    async with await load.sink(take, address, 25):
        await _until_the_end().wait()
    print(json.dumps(arrived))


if __name__ == "__main__":
    verb, where, *rest = sys.argv[1:]
    asyncio.run(send(where, rest[1:], int(rest[0])) if verb == "send" else receive(where))
