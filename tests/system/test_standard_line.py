import os
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio
import os

from pyfix.system.standard_line import StandardLine


async def main():
    line = StandardLine(asyncio.get_running_loop())
    line.listen(line.write, lambda: (line.write(b"end"), line.close()))
    line.write(b"begin ")
    line.read(wanted=True)
    await line.closed.wait()


asyncio.run(main())
"""


@pytest.mark.system
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_input_is_heard_to_its_end(tmp_path, kind):
    text = b"x" * 200_000
    (tmp_path / "input").write_bytes(text)
    with open(tmp_path / "input", "rb") as file:
        source = {"stdin": file} if kind == "file" else {"input": text}
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=30, **source)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"begin " + text + b"end", b"")


@pytest.mark.system
def test_a_reader_that_has_gone_ends_it():
    """The pipe for input stays open: nobody waits for more of it."""
    reading, writing = os.pipe()
    gone, output = os.pipe()
    os.close(gone)
    try:
        program = PROGRAM.replace('line.write(b"end"), ', "")
        done = subprocess.run([sys.executable, "-c", program], stdin=reading, stdout=output, stderr=-1, timeout=30)
    finally:
        for fd in (reading, writing, output):
            os.close(fd)
    assert (done.returncode, done.stderr) == (0, b"")
