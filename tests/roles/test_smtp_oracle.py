"""The SMTP client beside Postfix's own: the same hosts, the same outcomes in the same words."""

import asyncio
import os
import re
import shutil
import tempfile
from pathlib import Path

import oracle
import pytest
from roles.smtp_world import World, run

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix needs root to be started"),
]

SCRIPTS = {
    "plain": {},
    "no ehlo": {"EHLO": "502 no"},
    "no pipelining": {"EHLO": "250 host.example"},
    "greeting 5xx": {"GREETING": "554 5.7.1 go away"},
    "greeting 4xx": {"GREETING": "450 4.3.2 later"},
    "greeting 2xx in lines": {"GREETING": "220-one\r\n220 two"},
    "greeting closes": {"GREETING": "CLOSE"},
    "greeting hangs": {"GREETING": "HANG"},
    "greeting is odd": {"GREETING": "354 what"},
    "greeting without text": {"GREETING": "554"},
    "ehlo 421": {"EHLO": "421 4.3.2 busy"},
    "ehlo closes": {"EHLO": "CLOSE"},
    "helo refused": {"EHLO": "502 no", "HELO": "550 5.7.1 no"},
    "mail 5xx": {"MAIL": "550 5.1.8 bad sender"},
    "mail 4xx": {"MAIL": "450 4.1.8 bad sender"},
    "mail closes": {"MAIL": "CLOSE"},
    "mail hangs": {"MAIL": "HANG"},
    "mail is odd": {"MAIL": "354 what"},
    "mail 5xx, no pipelining": {"EHLO": "250 x", "MAIL": "550 5.1.8 bad sender"},
    "rcpt 5xx": {"RCPT": "550 5.1.1 no such user"},
    "rcpt 5xx without status": {"RCPT": "550 no such user"},
    "rcpt 5xx with another class": {"RCPT": "550 4.1.1 no such user"},
    "rcpt 4xx": {"RCPT": "450 4.2.0 greylisted"},
    "rcpt 421": {"RCPT": "421 4.3.2 closing"},
    "rcpt in lines": {"RCPT": "550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 user"},
    "rcpt in lines of different status": {"RCPT": "550-5.1.1 no\r\n550 5.7.1 user"},
    "rcpt unprintable": {"RCPT": "550 5.1.1 a\x1bb\tc\x7f"},
    "rcpt closes": {"RCPT": "CLOSE"},
    "rcpt is odd": {"RCPT": "354 what"},
    "rcpt 5xx, no pipelining": {"EHLO": "250 x", "RCPT": "550 5.1.1 no such user"},
    "data 5xx": {"DATA": "554 5.5.1 no"},
    "data 4xx": {"DATA": "451 4.5.1 no"},
    "data 2xx": {"DATA": "250 2.0.0 what"},
    "data closes": {"DATA": "CLOSE"},
    "data hangs": {"DATA": "HANG"},
    "end 5xx": {"END": "554 5.7.1 spam"},
    "end 4xx": {"END": "451 4.3.0 later"},
    "end in lines": {"END": "250-2.0.0 well\r\n250 2.0.0 done"},
    "end without text": {"END": "250"},
    "end is odd": {"END": "354 what"},
    "end closes": {"END": "CLOSE"},
    "end hangs": {"END": "HANG"},
    "too big": {"EHLO": "250-x\r\n250 SIZE 10"},
    "garbage first": {"RCPT": "what?\r\n550 5.1.1 no"},
    "a long reply": {"RCPT": "550-5.1.1 " + "x" * 1500 + "\r\n550-5.1.1 " + "y" * 1500 + "\r\n550 5.1.1 z"},
    "a long line": {"RCPT": "550 5.1.1 " + "x" * 3000},
}
BODY = b"body\n.\n..x\n\n" + b"".join(
    b"%d %s\n" % (n, b"." * n) for n in (990, 994, 995, 996, 997, 1992, 1993, 3000, 9000)
)
MESSAGE = b"Subject: x\n\n" + BODY


def anonymous(port, relay, dsn, status, reason):
    """An outcome without what differs from one system to the other."""
    reason = re.sub("message size [0-9]+", "message size N", reason)
    # Postfix cuts its log lines at 2,000 bytes.
    return relay.replace(f":{port}", ":PORT"), dsn, status, reason[:1800]


def ours():
    """Outcomes of our client."""
    found = {}

    async def scenario():
        for name, script in SCRIPTS.items():
            async with World() as world:
                world.limit(0.3)
                host = await world.host(**script)
                delivered = await world.deliver(lines=MESSAGE.split(b"\n")[:-1], size=355)
                (outcome,) = delivered.outcomes
                found[name] = anonymous(world.port, outcome.relay, outcome.dsn, outcome.status, outcome.reason)
                if name == "plain":
                    found["body"] = host.messages[0].partition(b"\r\n\r\n")[2]

    run(scenario)
    return found


def postfixes():
    """Outcomes of Postfix's client."""
    directory = Path(tempfile.mkdtemp(prefix="pyfix-oracle-"))
    directory.chmod(0o755)
    seconds = {f"smtp_{stage}_timeout": "1s" for stage in ("helo", "mail", "rcpt", "data_init", "data_done")}
    found = {}

    async def scenario():
        worlds, hosts = [], []
        table = directory / "transport"
        for number, script in enumerate(SCRIPTS.values()):
            world = World()
            await world.__aenter__()
            hosts.append(await world.host(**script))
            worlds.append(world)
            with table.open("a") as file:
                file.write(f"s{number}.example smtp:[127.0.0.1]:{world.port}\n")
        postfix = oracle.Postfix(
            directory,
            {"transport_maps": f"texthash:{table}", "smtp_tls_security_level": "none", "smtp_line_length_limit": "998"}
            | seconds,
        )
        with postfix.started():
            await asyncio.to_thread(send, postfix)
            for number, (name, world) in enumerate(zip(SCRIPTS, worlds, strict=True)):
                line = re.search(
                    rf"to=<r@s{number}\.example>, relay=(.*?), delay=.*, dsn=(.*?), status=(\w+) \((.*?)\)?\n",
                    postfix.log_text(),
                )
                found[name] = anonymous(world.port, *line.groups())
            found["body"] = hosts[0].messages[0].partition(b"\r\n\r\n")[2]
        for world in worlds:
            await world.__aexit__(None, None, None)

    try:
        run(scenario, 90)
    finally:
        shutil.rmtree(directory)
    return found


def send(postfix):
    for number in range(len(SCRIPTS)):
        postfix.run("sendmail", "-i", "-f", "s@example.com", f"r@s{number}.example", data=MESSAGE)
    postfix.wait_for(lambda: len(re.findall(r"to=<r@s.*status=", postfix.log_text())) >= len(SCRIPTS))


@pytest.fixture(scope="module")
def outcomes():
    return postfixes(), ours()


@pytest.mark.parametrize("name", SCRIPTS)
def test_outcomes_are_postfix_s(outcomes, name):
    theirs, mine = outcomes
    assert mine[name] == theirs[name]


def test_content_is_sent_as_postfix_sends_it(outcomes):
    theirs, mine = outcomes
    assert mine["body"] == theirs["body"]
