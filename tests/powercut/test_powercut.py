import contextlib
import os
import shutil
import stat

import pytest
from powercut import accept, deliver, powercut

from pyfix.system import durable

STATES = 100
MUTANT_STATES = 60


def _impossible():
    if os.geteuid() != 0:
        return "loop mounts need root"
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse"
    if not shutil.which("mkfs.ext4"):
        return "no mkfs.ext4 (e2fsprogs)"
    for module in ("fusepy", "fuse"):
        try:
            __import__(module)
        except (ImportError, OSError):
            continue
        return ""
    return "no fusepy (Debian: python3-fusepy)"


pytestmark = [pytest.mark.system, pytest.mark.skipif(bool(_impossible()), reason=_impossible() or "-")]


def _first_violations(directory, driver, states, seed, violations=accept.violations):
    """The violations of the first crash state that has any, and how many states were looked at."""
    events = powercut.record(directory, driver)
    looked_at = 0
    promised = 0
    with contextlib.closing(powercut.crash_states(directory, events, states, seed)) as crashes:
        for state in crashes:
            looked_at += 1
            promised += len(state.marks)
            found = violations(state.root, state.marks)
            if found:
                return [f"cut before event {state.point}, pending writes {state.variant}: {what}" for what in found]
    assert looked_at == states
    assert promised > states
    return []


def test_no_power_cut_loses_what_was_accepted(tmp_path):
    assert _first_violations(tmp_path, accept.Accept(), STATES, seed=1) == []


def test_mutant_without_fsync_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(durable.os, "fsync", lambda _: None)
    assert "is lost from" in _first_violations(tmp_path, accept.Accept(), MUTANT_STATES, seed=2)[0]


def test_mutant_that_acknowledges_before_the_fsync_is_caught(tmp_path):
    class AcknowledgeFirst(accept.Accept):
        def commit(self, writer, acknowledge):
            acknowledge()
            writer.commit()

    assert "is lost from" in _first_violations(tmp_path, AcknowledgeFirst(), MUTANT_STATES, seed=3)[0]


def test_mutant_that_makes_visible_after_the_fsync_is_caught(tmp_path, monkeypatch):
    """Durable, but mode 0600: start-up repair takes it for a left-over."""

    def commit(file, mode=0o700):
        os.fsync(file._descriptor)
        os.fchmod(file._descriptor, mode)
        os.close(file._descriptor)
        file._descriptor = -1

    monkeypatch.setattr(durable.DurableFile, "commit", commit)
    assert "is lost from" in _first_violations(tmp_path, accept.Accept(), MUTANT_STATES, seed=4)[0]


def _first_violations_of_maildir(directory, states, seed):
    return _first_violations(directory, deliver.Deliver(), states, seed, deliver.violations)


def test_no_power_cut_loses_what_was_delivered_or_leaves_it_torn(tmp_path):
    assert _first_violations_of_maildir(tmp_path, STATES, seed=5) == []


def test_mutant_that_does_not_sync_the_directory_of_a_maildir_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "sync_directory", lambda _: None)
    assert "is lost" in _first_violations_of_maildir(tmp_path, MUTANT_STATES, seed=6)[0]


def test_mutant_that_does_not_sync_the_message_is_caught(tmp_path, monkeypatch):
    fsync = os.fsync

    def fsync_of_directories(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            fsync(descriptor)

    monkeypatch.setattr(durable.os, "fsync", fsync_of_directories)
    (violation, *_) = _first_violations_of_maildir(tmp_path, MUTANT_STATES, seed=7)
    assert "is torn" in violation or "is lost" in violation
