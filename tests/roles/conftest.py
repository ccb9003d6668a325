import pytest

from pyfix.roles import bounce, cleanup, postdrop
from pyfix.system.flusher import Flusher


@pytest.fixture(autouse=True)
def no_thread_survives(monkeypatch):
    """In a test run many roles live and die in one process; a thread left over would forbid changes of identity."""
    started = []

    class Recorded(Flusher):
        def __init__(self, loop):
            super().__init__(loop)
            started.append(self)

    for role in (bounce, cleanup, postdrop):
        monkeypatch.setattr(role, "Flusher", Recorded)
    yield
    for flusher in started:
        flusher.close()
