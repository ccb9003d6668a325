"""Two mail hosts, a network, and real DNS: what becomes of a message, and what the journals of both tell of it."""

import json
import re

import pytest
from machine.dns import DnsServer, reverse_zone
from machine.host import MailHost
from machine.traffic import traffic

HERE = {"myhostname": "mail.here.example", "mydestination": "$myhostname, here.example", "myorigin": "here.example"}
THERE = {
    "myhostname": "mail.there.example",
    "mydestination": "$myhostname, there.example, detour.there.example, later.there.example",
    "myorigin": "there.example",
}
# What is late is tried again when a test says so, unless it says otherwise. What hangs is given up soon enough.
PATIENCE = {
    "minimal_backoff_time": "1h",
    "queue_run_delay": "1s",
    "transport_retry_time": "1s",
    **dict.fromkeys(
        (f"smtp_{stage}_timeout" for stage in (
            "connect", "data_done", "data_init", "data_xfer", "helo", "mail", "quit", "rcpt", "rset",
        )), "5s",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def here(installed, network):
    neighbours = f"127.0.0.0/8 {network.gateway}/32"
    with MailHost(installed, "here", network, **HERE, **PATIENCE, mynetworks=neighbours) as host:
        yield host


@pytest.fixture(scope="module")
def there(installed, network):
    with MailHost(installed, "there", network, **THERE) as host:
        yield host


@pytest.fixture(scope="module")
def name_server(here, there, network):
    """Zones of two domains and of the network, served by one host to both; nobody answers on port 25 of ``closed``."""
    names = {int(host.address.rpartition(".")[2]): f"mail.{host.name}.example" for host in (here, there)}
    zones = {
        "here.example": ["@ MX 10 mail", f"mail A {here.address}"],
        "there.example": [
            "@ MX 10 mail",
            f"mail A {there.address}",
            f"closed A {network.gateway}",
            "detour MX 30 mail.here.example.",
            "detour MX 20 mail",
            "detour MX 10 closed",
            "*.any A 192.0.2.1",
            "later MX 10 mail",
        ],
    }
    server = DnsServer(here, zones | reverse_zone(network.prefix, names))
    server.serve(here)
    server.serve(there)
    return server


@pytest.fixture(autouse=True)
def _world(here, there, name_server):
    """Whatever the test before did, both run, are joined, and have DNS."""
    yield
    there.plug_in()
    name_server.start()
    there.kill("pyfix-cleanup", "CONT")
    there.run("systemctl start pyfix-smtpd.socket")


def message(name, body="body"):
    return f"From: <alice@here.example>\nSubject: {name}\nMessage-ID: <{name}@here.example>\n\n{body}\n"


def assert_story(story, *patterns):
    """The lines are these, in this order, and no others."""
    assert len(story) == len(patterns), "\n".join(story)
    for line, pattern in zip(story, patterns, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)


DELAYS = r"delay=[\d.]+, delays=([\d.]+/){3}[\d.]+"
REMOVED = "qmgr: removed"


def identified(name):
    return rf"cleanup: message-id=<{name}@here\.example>"


def active(sender):
    return rf"qmgr: from=<{re.escape(sender)}>, size=\d+, nrcpt=1 \(queue active\)"


def delivery(agent, recipient, relay, dsn, outcome):
    used = r"(conn_use=\d+, )?"
    return (
        f"{agent}: to=<{re.escape(recipient)}>, relay={relay}, {used}{DELAYS}, dsn={re.escape(dsn)}, status={outcome}"
    )


def delivered(recipient):
    return delivery("local", recipient, "local", "2.0.0", r"sent \(delivered to maildir\)")


def deferred(recipient, dsn, reason, relay="none"):
    return delivery("smtp", recipient, relay, dsn, rf"deferred \({reason}\)")


def sent(recipient, there):
    return delivery("smtp", recipient, relay(there), "2.0.0", r"sent \(250 2\.0\.0 Ok: queued as \w+\)")


def label(host):
    """NAME[ADDRESS], as a pattern."""
    return re.escape(f"mail.{host.name}.example[{host.address}]")


def relay(host):
    return f"{label(host)}:25"


def submitted(here, name, *attempts):
    """The story of a message that alice submitted: its last line follows the attempts."""
    uid = here.run("id -u alice").stdout.strip()
    turns = [line for attempt in attempts for line in (active("alice@here.example"), attempt)]
    return f"pickup: uid={uid} from=<alice>", identified(name), *turns


def assert_arrived(there, here, story, name, recipient):
    """The next host's side of a message from alice: its story, and one copy in bob's mailbox."""
    queue_id = re.search(r"queued as (\w+)\)", story[-2])[1]
    assert_story(
        there.whole_story(queue_id),
        f"smtpd: client={label(here)}",
        identified(name),
        active("alice@here.example"),
        delivered(recipient),
        REMOVED,
    )
    assert sum(f"\nSubject: {name}\n" in text for text in there.mailbox("bob")) == 1


def look_up(host, name):
    """What the resolver role answers."""
    question = json.dumps({"name": name, "type": "A", "hosts": False})
    words = ("unix:/run/pyfix/resolver/io.pyfix.Resolver", "io.pyfix.Resolver.Lookup", question)
    answer = json.loads(host.run(["varlinkctl", "call", *words]).stdout)
    return answer["status"], [record["value"] for record in answer["records"]]


def test_the_resolver_follows_resolv_conf_out_of_its_sandbox(there, name_server):
    assert look_up(there, "one.any.there.example") == ("ok", ["192.0.2.1"])
    pid = there.main_pid("pyfix-resolver")
    there.run("echo 'nameserver 127.0.0.1' >/etc/resolv.conf")
    assert look_up(there, "two.any.there.example") == ("again", [])
    name_server.serve(there)
    assert look_up(there, "three.any.there.example") == ("ok", ["192.0.2.1"])
    assert there.main_pid("pyfix-resolver") == pid


def test_from_the_network_into_a_maildir(here, there):
    there.smtp(here, "bob@there.example", "alice@here.example", message("inwards"))
    assert_story(
        here.whole_story(here.queue_id("inwards@here.example")),
        f"smtpd: client={label(there)}",
        identified("inwards"),
        active("bob@there.example"),
        delivered("alice@here.example"),
        REMOVED,
    )
    (text,) = (text for text in here.mailbox("alice") if "\nSubject: inwards\n" in text)
    assert text.startswith("Return-Path: <bob@there.example>\nX-Original-To: alice@here.example\n")
    assert f" (mail.there.example [{there.address}])\n\tby mail.here.example (pyfix) with ESMTP" in text
    assert text.endswith("\n\nbody\n")


def test_from_sendmail_to_the_next_hosts_mx_into_a_maildir(here, there):
    recipient = "bob@there.example"
    here.sendmail("alice", recipient, message("outwards"))
    story = here.whole_story(here.queue_id("outwards@here.example"))
    assert_story(story, *submitted(here, "outwards", sent(recipient, there)), REMOVED)
    assert_arrived(there, here, story, "outwards", recipient)
    (text,) = (text for text in there.mailbox("bob") if "\nSubject: outwards\n" in text)
    assert text.count("\nReceived: ") == 2


def test_a_mail_exchanger_that_refuses_is_passed_over(here, there, network):
    recipient = "bob@detour.there.example"
    here.sendmail("alice", recipient, message("detour"))
    story = here.whole_story(here.queue_id("detour@here.example"))
    assert_story(story, *submitted(here, "detour", sent(recipient, there)), REMOVED)
    assert_arrived(there, here, story, "detour", recipient)
    passed_over = f"connect to closed.there.example[{network.gateway}]:25: Connection refused"
    assert passed_over in [entry["MESSAGE"] for entry in here.journal("-t", "pyfix/smtp")]


def wait_deferred(here, queue_id, pattern):
    """Waits until a message is in deferred/, with this reason in the journal; mailq shows the same."""

    def deferred():
        return [entry for entry in here.queue() if entry["queue_id"] == queue_id and entry["queue_name"] == "deferred"]

    (entry,) = here.wait_until(deferred, f"{queue_id} in deferred/")
    assert len(list((here.root / "var/spool/pyfix/deferred").rglob(queue_id))) == 1
    (recipient,) = entry["recipients"]
    assert re.fullmatch(pattern, recipient["delay_reason"])
    assert any(f"status=deferred ({recipient['delay_reason']})" in line for line in here.story(queue_id))
    listed = here.run("mailq").stdout
    assert listed == here.run("postqueue -p").stdout
    assert re.search(
        rf"^{queue_id} +\d+ \w{{3}} \w{{3}} [ \d]\d \d\d:\d\d:\d\d alice@here\.example\n"
        rf" *\({re.escape(recipient['delay_reason'])}\)\n {{47}}{re.escape(recipient['address'])}$",
        listed,
        re.MULTILINE,
    ), listed


def test_refused_connections_defer_until_a_flush_finds_the_host_again(here, there):
    recipient = "bob@there.example"
    there.run("systemctl stop pyfix-smtpd.socket pyfix-smtpd.service")
    here.sendmail("alice", recipient, message("refused"))
    queue_id = here.queue_id("refused@here.example")
    refusal = f"connect to {relay(there)}: Connection refused"
    wait_deferred(here, queue_id, refusal)
    there.run("systemctl start pyfix-smtpd.socket")
    here.run("runuser -u alice -- postqueue -f")
    story = here.whole_story(queue_id)
    attempts = deferred(recipient, "4.4.1", refusal), sent(recipient, there)
    assert_story(story, *submitted(here, "refused", *attempts), REMOVED)
    assert_arrived(there, here, story, "refused", recipient)


def test_a_domain_that_does_not_exist_bounces(here):
    recipient = "bob@nosuch.there.example"
    here.sendmail("alice", recipient, message("nosuch"))
    story = here.whole_story(here.queue_id("nosuch@here.example"))
    reason = (
        r"Host or domain name not found\. "
        r"Name service error for name=nosuch\.there\.example type=AAAA: Host not found"
    )
    bounced = delivery("smtp", recipient, "none", "5.4.4", rf"bounced \({reason}\)")
    notice = r"bounce: sender non-delivery notification: \w+"
    assert_story(story, *submitted(here, "nosuch", bounced), notice, REMOVED)
    assert_story(
        here.whole_story(story[-2].rpartition(" ")[2]),
        r"cleanup: message-id=<\S+@mail\.here\.example>",
        active(""),
        delivered("alice@here.example"),
        REMOVED,
    )
    text = here.mailbox("alice")[-1]
    assert text.startswith("Return-Path: <>\n")
    assert "\nStatus: 5.4.4\n" in text
    assert "\nSubject: nosuch\n" in text


@pytest.fixture
def quick_retries(here):
    """The queue run, and no person, tries again."""
    here.set(minimal_backoff_time="1s", maximal_backoff_time="1s")
    here.reload()
    yield
    here.set(**PATIENCE, maximal_backoff_time="4000s")
    here.reload()


def test_a_name_server_that_is_down_defers_until_it_is_back(here, there, name_server, quick_retries):
    recipient = "bob@later.there.example"
    name_server.stop()
    here.sendmail("alice", recipient, message("later"))
    queue_id = here.queue_id("later@here.example")
    reason = (
        r"Host or domain name not found\. "
        r"Name service error for name=later\.there\.example type=MX: Host not found, try again"
    )
    wait_deferred(here, queue_id, reason)
    name_server.start()
    story = here.whole_story(queue_id)
    failures = sum("status=deferred" in line for line in story)
    attempts = *[deferred(recipient, "4.4.3", reason)] * failures, sent(recipient, there)
    assert_story(story, *submitted(here, "later", *attempts), REMOVED)
    assert_arrived(there, here, story, "later", recipient)


def test_a_cut_in_the_middle_of_the_content_defers_and_the_message_arrives_once(here, there):
    recipient = "bob@there.example"
    there.run("systemctl start pyfix-cleanup")
    there.kill("pyfix-cleanup", "STOP")
    here.sendmail("alice", recipient, message("cut", "0123456789\n" * 500_000))
    queue_id = here.queue_id("cut@here.example")

    def stuck():
        connections = here.run(f"ss --no-header --tcp --numeric dst {there.address}:25").stdout.splitlines()
        return any(int(line.split()[2]) > 0 for line in connections)

    here.wait_until(stuck, "content that the other side does not read")
    there.cut_off()
    cut = f"(conversation with {label(there)} timed out|lost connection with {label(there)}) while sending message body"
    wait_deferred(here, queue_id, cut)
    there.plug_in()
    there.kill("pyfix-cleanup", "CONT")
    here.run("postqueue -f")
    story = here.whole_story(queue_id)
    attempts = deferred(recipient, "4.4.2", cut, relay(there)), sent(recipient, there)
    assert_story(story, *submitted(here, "cut", *attempts), REMOVED)
    assert_arrived(there, here, story, "cut", recipient)


def test_a_cut_under_load_loses_nothing(here, there, network, quick_retries):
    """Twice comes only what was in doubt: the answer to the end of the content was lost."""
    cursor = here.cursor()
    with traffic(network, here.address, "bob@there.example") as sent:
        there.wait_until(lambda: len(there.mailbox("bob")) > 50, "traffic")
        there.cut_off()
        here.wait_until(lambda: len(here.queue()) > 100, "a queue")
    here.wait_until(lambda: any(entry["queue_name"] == "deferred" for entry in here.queue()), "deferred mail")
    there.plug_in()
    for host in (here, there):
        host.wait_empty()
    for text in there.mailbox("bob"):
        if "\nX-Ledger: " in text:
            sent.ledger.receive(text.encode(), ["bob"])
    entries = here.journal("-t", "pyfix/smtp", f"--after-cursor={cursor}")
    in_doubt = sum("may be sent more than once" in entry["MESSAGE"] for entry in entries)
    assert len(sent.ledger.acknowledged) > 150
    assert (sent.ledger.missing(), sent.ledger.damaged()) == (set(), set())
    assert sent.ledger.duplicates() <= in_doubt
