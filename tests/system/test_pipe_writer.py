import asyncio
import os

from pyfix.system.pipe import open_pipe
from pyfix.system.pipe_writer import PipeWriter


def play(scenario):
    async def main():
        reading, writing = open_pipe()
        room, full = asyncio.Event(), asyncio.Event()
        writer = PipeWriter(asyncio.get_running_loop(), writing, room.set, full.set)
        try:
            await scenario(writer, reading, room)
            assert full.is_set() == room.is_set()
        finally:
            writer.close()

    asyncio.run(main())


def test_what_the_pipe_takes_is_gone_at_once():
    async def scenario(writer, reading, _room):
        writer.write(b"abc")
        assert writer.held == 0
        writer.finish()
        assert os.read(reading, 10) == b"abc"
        assert os.read(reading, 10) == b""
        os.close(reading)

    play(scenario)


def test_the_rest_is_held_until_there_is_room():
    async def scenario(writer, reading, room):
        data = os.urandom(300_000)
        writer.write(data)
        writer.write(b"end")
        writer.finish()
        assert writer.held == 300_003 - 65536
        got = b""
        while more := os.read(reading, 65536):
            got += more
            await asyncio.sleep(0.001)
        assert got == data + b"end"
        await room.wait()
        os.close(reading)

    play(scenario)


def test_nobody_reads():
    async def scenario(writer, reading, room):
        writer.write(b"x" * 100_000)
        assert writer.held
        os.close(reading)
        await room.wait()
        assert writer.held == 0
        writer.write(b"more")
        assert writer.held == 0

    play(scenario)
