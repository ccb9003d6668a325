"""``make run``, without make."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

DEMONSTRATION = [sys.executable, str(Path(__file__).parent / "demonstrate.py")]


def run_once(directory):
    return subprocess.run(
        [*DEMONSTRATION, "--once", directory], capture_output=True, text=True, check=False, timeout=180
    )


def test_both_messages_are_shown_delivered_twice_and_a_second_run_works(tmp_path):
    for run in (1, 2):
        done = run_once(tmp_path / "run")
        assert done.returncode == 0, done.stdout + done.stderr
        log = done.stdout.partition("== The log")[2].partition("== What arrived")[0]
        assert len(re.findall(r"pyfix/local\[\d+\]: \w+: to=<.*relay=local, .*dsn=2.0.0, status=sent", log)) == 2
        assert len(re.findall(r"pyfix/smtp\[\d+\]: \w+: to=<somebody@example.net>, .*status=sent", log)) == 2
        assert "Mail queue is empty" in done.stdout
        assert re.search(r"== pyfix trace (\w+)\n\1  from <.+\narrived .+ from user \d+ of this machine\n", done.stdout)
        assert len(list((tmp_path / "run/next-host").iterdir())) == 2 * run
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert [path for path in (tmp_path / "run/run").rglob("*") if not path.is_dir()] == []


def test_it_serves_until_ctrl_c_and_a_second_one_does_not_disturb_it(tmp_path):
    process = subprocess.Popen(
        [*DEMONSTRATION, tmp_path / "run"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        said = b""
        end = time.monotonic() + 120
        while b"Serving until Ctrl-C" not in said or b"next-host\n" not in said.partition(b"Serving")[2]:
            assert select.select([process.stdout], [], [], max(0, end - time.monotonic()))[0], said
            said += os.read(process.stdout.fileno(), 65536)
        second = run_once(tmp_path / "run")
        assert (second.returncode, "is running in" in second.stderr) == (1, True)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
