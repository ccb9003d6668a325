"""Pipes in an event loop."""

import asyncio
import errno
import os

import pytest

from pyfix.system.pipe import NotAPipe, PipeReader, open_pipe, write_pipe


async def read(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()
    chunks: list[bytes] = []
    reader = PipeReader(
        loop, fd, chunks.append, lambda error: end.set_exception(error) if error else end.set_result(None)
    )
    reader.start()
    await end
    return b"".join(chunks)


def test_everything_arrives_however_large() -> None:
    chunks = [b"x" * size for size in (1, 70_000, 300_000, 0, 5)]

    async def main() -> None:
        reading, writing = open_pipe()
        got = asyncio.create_task(read(reading))
        assert await write_pipe(writing, chunks)
        os.close(writing)
        assert await got == b"".join(chunks)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(reading)

    asyncio.run(main())


def test_what_could_not_be_read_comes_out_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed read the next pipe's content is that pipe's, and nothing of the failed one's."""
    real_read = os.read

    def failing_read(_fd: int, _size: int) -> bytes:
        monkeypatch.setattr(os, "read", real_read)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def main() -> None:
        for content, failing in ((b"first", True), (b"second", False)):
            reading, writing = open_pipe()
            os.write(writing, content)
            os.close(writing)
            if failing:
                monkeypatch.setattr(os, "read", failing_read)
                with pytest.raises(OSError, match="Input/output error"):
                    await read(reading)
            else:
                assert await read(reading) == content

    asyncio.run(main())


def test_nobody_reads() -> None:
    async def main() -> None:
        reading, writing = open_pipe()
        written = asyncio.create_task(write_pipe(writing, [b"x" * 300_000]))
        await asyncio.sleep(0)
        os.close(reading)
        assert not await written
        os.close(writing)

    asyncio.run(main())


def test_a_closed_reader_says_no_more() -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        said: list[object] = []
        reader = PipeReader(asyncio.get_running_loop(), reading, said.append, said.append)
        reader.start()
        os.write(writing, b"x")
        reader.close()
        reader.close()
        await asyncio.sleep(0)
        os.close(writing)
        assert said == []

    asyncio.run(main())


def test_only_pipes(tmp_path) -> None:
    async def main() -> None:
        fd = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(NotAPipe):
            PipeReader(asyncio.get_running_loop(), fd, print, print)
        os.close(fd)

    asyncio.run(main())
