import pytest
from machine import dns, package
from machine.machine import Machine, Network


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/machine" in str(item.path):
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def deb(root):
    """The Debian package of these sources."""
    return package.build()


@pytest.fixture(scope="session")
def installed(deb):
    """A tree in which the package is installed, with two users, alice and bob, and what else tests want."""
    with Machine(package.tree(dns.PACKAGE, "python3-varlink")) as machine:
        machine.run("useradd --create-home alice && useradd --create-home bob")
        machine.install(deb)
        yield machine.image()


@pytest.fixture(scope="module")
def network(root):
    """A network for the module's machines."""
    network = Network()
    yield network
    network.close()


@pytest.fixture(scope="module")
def machine(deb, network):
    """A Debian 13 with pyfix installed by apt, and two users, bob and alice."""
    with Machine(package.tree(), network=network) as machine:
        machine.run("useradd --create-home bob && useradd --create-home alice")
        machine.install(deb)
        yield machine
