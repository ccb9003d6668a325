import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

# Modules that tests share (oracle.py) stand beside this file.
sys.path.insert(0, str(Path(__file__).parent))

import oracle

from pyfix.spool.directories import Spool


@pytest.fixture
def spool(tmp_path):
    """An empty queue."""
    root = tmp_path / "spool"
    root.mkdir()
    spool = Spool(str(root))
    spool.make_directories()
    yield spool
    spool.close()


@pytest.fixture
def public_directory():
    """A temporary directory that every user of the machine may enter."""
    path = Path(tempfile.mkdtemp(prefix="pyfix-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def root():
    """Test machines need root: mounts, namespaces, systemd-nspawn."""
    if os.geteuid() == 0:
        return
    reason = "test machines need root"
    if os.environ.get("PYFIX_REQUIRE_MACHINE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postfix_package():
    """Debian's Postfix, unpacked."""
    try:
        return oracle.unpack()
    except oracle.Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture
def postfix(postfix_package, public_directory):
    """An instance of Debian's Postfix, not running, with an empty queue."""
    return oracle.Postfix(public_directory / "postfix")
