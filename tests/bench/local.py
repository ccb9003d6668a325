"""``make bench-local``: the CPU that each role spends on a message, pyfix alone.

4 kB messages over 20 persistent sessions, relayed to a sink on this machine, every sync on. CPU is read from /proc, so
that client and sink, which run in this process, do not count.
"""

import argparse
import asyncio
import os
import tempfile
import time

import load
from ledger import Ledger
from system_under_test import SystemUnderTest

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(system):
    """CPU time by role, user and system, in seconds."""
    return {name: sum(sum(p.cpu_times()[:4]) for p in processes) for name, processes in system.roles().items()}


async def measure(messages, sessions, size, directory):
    received = 0
    all_received = asyncio.Event()

    def count(_content, _recipients):
        nonlocal received
        received -= 1
        if received == 0:
            all_received.set()

    server = await load.sink(count)
    port = server.sockets[0].getsockname()[1]
    system = SystemUnderTest(directory, f"relayhost = [127.0.0.1]:{port}\n")
    await asyncio.to_thread(system.start)
    try:

        async def run(number):
            nonlocal received
            received = number
            all_received.clear()
            ledger = Ledger()
            await load.load(
                system.smtp_port, ledger, sessions=sessions, messages=number, size=size, recipient="sink@example.net",
            )  # fmt: skip
            if len(ledger.acknowledged) < number:
                raise SystemExit("a message was refused; the system's log says why")
            await all_received.wait()

        await run(200)
        before, start = cpu_seconds(system), time.monotonic()
        await run(messages)
        wall = time.monotonic() - start
        await asyncio.to_thread(system.wait_empty)
        after = cpu_seconds(system)
        return {name: after[name] - before.get(name, 0) for name in after}, wall
    finally:
        await asyncio.to_thread(system.stop)
        server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=3000)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--size", type=int, default=4000, help="bytes")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory(prefix="pyfix-bench-") as directory:
            spent, wall = asyncio.run(
                measure(options.messages, options.sessions, options.size, os.path.join(directory, "system"))
            )
        print(f"round {number}: {options.messages / wall:.0f} messages/s, {options.messages} messages of "
              f"{options.size} bytes over {options.sessions} sessions")  # fmt: skip
        for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
            print(f"  {name:10} {seconds / options.messages * 1000:6.3f} ms CPU a message")
        print(f"  {'all roles':10} {sum(spent.values()) / options.messages * 1000:6.3f} ms CPU a message")


if __name__ == "__main__":
    main()
