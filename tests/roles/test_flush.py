"""flush: who may ask for early attempts, the record of what is deferred for whom, and its upkeep."""

import asyncio
import os
import time

import pytest
from roles.serving import run

from pyfix.roles import flush
from pyfix.service import client, queue
from pyfix.service.client import Client
from pyfix.service.denied import Stranger
from pyfix.service.flush import FLUSH, REGISTER, Add, Denied, Message, Site
from pyfix.service.interface import Nothing
from pyfix.spool import flush_log

LONG, SHORT = "4jXZyg57fwzFGn9", "6316C1AE697"
DOMAINS = "example.com, [192.0.2.1]"


class Asked(list):
    """What the queue manager was asked for."""

    def __call__(self, call):
        self.append((call.parameters.queue_ids, call.parameters.wanted))
        return Nothing()


def logs(role):
    directory = role.directory / "spool/flush"
    return {path.name: path.read_text() for path in directory.iterdir()}


def scenario(tmp_path, steps, *, queue_manager=True, **parameters):
    """Runs ``steps(ask, role)`` with the role; what the queue manager was asked for."""
    asked = Asked()

    async def play(role):
        if queue_manager:
            role.implement(queue.QUEUE, {"Announce": lambda _call: Nothing(), "Flush": asked})
        await flush.start(role)
        await asyncio.sleep(0)  # the upkeep begins
        await role.idle()

        async def ask(interface, method, parameters):
            client = Client(interface, role.path(interface), 10)
            try:
                reply = await client.call(method, parameters)
            finally:
                client.close()
            return reply.status

        await steps(ask, role)

    role = run(tmp_path, play, **{"fast_flush_domains": DOMAINS, **parameters})
    return asked, role


def test_all_mail_and_one_message(tmp_path):
    async def steps(ask, _role):
        assert await ask(FLUSH, "FlushAll", Nothing()) == "ok"
        assert await ask(FLUSH, "FlushMessage", Message(LONG)) == "ok"
        assert await ask(FLUSH, "FlushMessage", Message("nosuch")) == "ok"

    asked, _ = scenario(tmp_path, steps)
    assert asked == [((), True), ((LONG,), True)]


@pytest.mark.parametrize("interface", [FLUSH, REGISTER], ids=lambda i: i.name)
def test_what_was_noted_for_a_destination_is_tried(tmp_path, interface):
    async def steps(ask, role):
        await ask(REGISTER, "Add", Add(LONG, ("example.com", "example.org", "sub.EXAMPLE.com")))
        await ask(REGISTER, "Add", Add(SHORT, ("Example.COM", "[192.0.2.1]")))
        await ask(REGISTER, "Add", Add(LONG, ("example.com",)))
        assert logs(role) == {
            "example_com": f"{LONG}\n{SHORT}\n{LONG}\n",
            "sub_example_com": f"{LONG}\n",
            "_192_0_2_1_": f"{SHORT}\n",
        }
        method = "FlushSite" if interface is FLUSH else "Send"
        assert await ask(interface, method, Site("EXAMPLE.com")) == "ok"
        assert logs(role)["example_com"] == ""
        assert await ask(interface, method, Site("example.com")) == "ok"
        assert await ask(interface, method, Site("none.example.com")) == "ok"
        assert await ask(interface, method, Site("example.org")) == "deny"
        assert await ask(interface, method, Site("x" * 300)) == "bad"
        assert await ask(interface, method, Site("")) == "bad"

    asked, _ = scenario(tmp_path, steps)
    assert asked == [((LONG, SHORT), True)]


def test_what_is_no_queue_id_is_not_noted(tmp_path):
    async def steps(ask, role):
        assert await ask(REGISTER, "Add", Add("../x", ("example.com",))) == "bad"
        assert logs(role) == {}

    scenario(tmp_path, steps)


def test_many_messages_are_asked_for_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(flush, "_BATCH", 2)
    queue_ids = [f"{n:08X}" for n in range(5)]

    async def steps(ask, _role):
        for queue_id in queue_ids:
            await ask(REGISTER, "Add", Add(queue_id, ("example.com",)))
        await ask(FLUSH, "FlushSite", Site("example.com"))

    asked, _ = scenario(tmp_path, steps)
    assert [list(part) for part, _ in asked] == [queue_ids[:2], queue_ids[2:4], queue_ids[4:]]


def test_more_than_a_log_holds_is_all_mail(tmp_path, monkeypatch):
    monkeypatch.setattr(flush_log, "SIZE_LIMIT", 20)

    async def steps(ask, _role):
        for _ in range(3):
            await ask(REGISTER, "Add", Add(LONG, ("example.com",)))
        assert await ask(FLUSH, "FlushSite", Site("example.com")) == "ok"

    asked, _ = scenario(tmp_path, steps)
    assert asked == [((), True)]


def test_upkeep_of_a_log_that_is_full_tries_what_it_names(tmp_path, monkeypatch):
    monkeypatch.setattr(flush_log, "SIZE_LIMIT", 16)
    log = tmp_path / "spool/flush/example_com"
    log.parent.mkdir(parents=True)
    log.write_text(f"{LONG}\n")
    age(log, 86_400, 86_400)

    async def steps(_ask, role):
        assert logs(role) == {"example_com": ""}

    asked, _ = scenario(tmp_path, steps)
    assert asked == [((LONG,), False)]


def test_without_a_queue_manager_the_record_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "CONNECT_PATIENCE", 0.0)

    async def steps(ask, role):
        await ask(REGISTER, "Add", Add(LONG, ("example.com",)))
        assert await ask(FLUSH, "FlushSite", Site("example.com")) == "fail"
        assert logs(role) == {"example_com": f"{LONG}\n"}
        assert await ask(FLUSH, "FlushAll", Nothing()) == "fail"
        assert await ask(FLUSH, "FlushMessage", Message(LONG)) == "fail"

    _, role = scenario(tmp_path, steps, queue_manager=False)
    assert len([line for line in role.journal.lines if line.startswith("warning: queue service failure: ")]) == 3


def test_trouble_with_the_file_system_is_told(tmp_path):
    async def steps(ask, role):
        (role.directory / "spool/flush/example_com").mkdir()
        assert await ask(REGISTER, "Add", Add(LONG, ("example.com",))) == "fail"
        assert await ask(FLUSH, "FlushSite", Site("example.com")) == "fail"

    _, role = scenario(tmp_path, steps)
    assert [line for line in role.journal.lines if "example_com" in line]


def test_a_user_who_is_not_on_the_list(tmp_path, monkeypatch):
    class Nobody:
        def __init__(self, _conf, parameter, _journal):
            assert parameter == "authorized_flush_users"

        async def check(self, peer):
            return Stranger("nobody", peer.uid)

    monkeypatch.setattr(flush, "QueueUsers", Nobody)

    async def steps(ask, _role):
        for method, parameters in (
            ("FlushAll", Nothing()),
            ("FlushMessage", Message(LONG)),
            ("FlushSite", Site("example.com")),
        ):
            with pytest.raises(Denied) as denied:
                await ask(FLUSH, method, parameters)
            assert denied.value.who == f"nobody({os.geteuid()})"
        assert await ask(REGISTER, "Send", Site("example.com")) == "ok"

    asked, _ = scenario(tmp_path, steps)
    assert asked == []


def age(path, written, used):
    now = time.time()
    os.utime(path, (now - used, now - written))


def test_upkeep_at_the_start(tmp_path):
    """Logs that nobody asked for are treated as if somebody had, without a word on dead destinations."""
    directory = tmp_path / "spool/flush"
    directory.mkdir(parents=True)
    hour, day = 3600, 86_400
    for name, content, written, used in (
        ("old_example_com", f"{LONG}\n", 0, 13 * hour),
        ("new_example_com", f"{SHORT}\n", 0, 11 * hour),
        ("empty_example_com", "", 6 * day, 6 * day),
        ("forgotten_example_com", "", 8 * day, 8 * day),
    ):
        (directory / name).write_text(content)
        age(directory / name, written, used)

    async def steps(_ask, role):
        assert logs(role) == {"old_example_com": "", "new_example_com": f"{SHORT}\n", "empty_example_com": ""}

    asked, _ = scenario(tmp_path, steps)
    assert asked == [((LONG,), False)]


def test_a_new_configuration_is_taken(tmp_path):
    async def steps(ask, role):
        assert await ask(FLUSH, "FlushSite", Site("example.org")) == "deny"
        role.conf = type(role)(role.directory, {"fast_flush_domains": "example.org"}).conf
        for callback in role.on_reload:
            callback(role.conf)
        assert await ask(FLUSH, "FlushSite", Site("example.org")) == "ok"
        assert await ask(FLUSH, "FlushSite", Site("example.com")) == "deny"

    scenario(tmp_path, steps)
