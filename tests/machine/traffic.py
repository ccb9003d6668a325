"""Mail into a machine from its network's side, by a process of its own in the network's namespace.

usage: traffic.py HOST RECIPIENT SESSIONS

Sends one message a connection over SESSIONS connections until standard input ends, and prints what happened as JSON:
"digests" of the bodies by key, "acknowledged" and "uncertain" keys, "refused": what connect() said.
"""

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import load

SIZE = 4096


class Traffic:
    """What was sent, when it is over."""

    def __init__(self):
        self.ledger = load.Ledger()
        self.refused = []
        self.acknowledged = 0

    def read(self, text):
        said = json.loads(text)
        self.refused = said["refused"]
        self.ledger.digests = said["digests"]
        self.ledger.acknowledged = set(said["acknowledged"])
        self.ledger.uncertain = set(said["uncertain"])
        self.acknowledged = len(self.ledger.acknowledged)


@contextmanager
def traffic(network, host, recipient, sessions=20):
    """Traffic from the network to a machine as long as the context lasts; the Traffic is complete at its end."""
    words = ["ip", "netns", "exec", network.name, sys.executable, __file__, host, recipient, str(sessions)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    result = Traffic()
    try:
        yield result
        result.read(process.communicate(timeout=120)[0])
    finally:
        process.kill()
        process.wait()


async def run(host, recipient, sessions):
    ledger, refused = load.Ledger(), []
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, over.set)

    async def one_session(number):
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
                ledger.digests[key] = load.body_digest(content)
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


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
