"""Every Varlink socket as others see it: systemd's varlinkctl, and python3-varlink; and who may call which."""

import json
import re

import pytest
from machine.host import MailHost
from machine.package import ROOT


def _sockets():
    """The sockets that the units make: {path: mode}."""
    found = {}
    for unit in sorted((ROOT / "units").glob("*.socket")):
        settings = dict(line.split("=", 1) for line in unit.read_text().splitlines() if re.match(r"\w+=", line))
        if settings["ListenStream"].startswith("/"):
            found[settings["ListenStream"]] = settings["SocketMode"]
    return found


SOCKETS = _sockets()
PUBLIC = {
    "/run/pyfix/control/io.pyfix.Control",
    "/run/pyfix/flush/io.pyfix.Flush",
    "/run/pyfix/postdrop/io.pyfix.Postdrop",
    "/run/pyfix/showq/io.pyfix.Showq",
}
ID = "4jXf434FnKz5lx"
ENTRY = {"recipient": "a@example.com", "offset": 0, "status": "4.0.0", "reason": "", "action": "postponed"}
DELIVERY = {
    "queue_id": ID, "message": 0, "content_offset": 0, "size": 0, "transport": "smtp", "nexthop": "example.com",
    "sender": "", "recipients": [], "arrival_usec": 0, "active_usec": 0,
}  # fmt: skip
NO_DESCRIPTOR = ("org.varlink.service.InvalidParameter", {"parameter": "file descriptor"})
BAD_ACTION = ("org.varlink.service.InvalidParameter", None)
# For each interface calls that change nothing: the parameters, and the reply or the error with its parameters.
CALLS = {
    "io.pyfix.Anvil": [("Look", {"service": "smtp", "address": "192.0.2.1"}, {"count": 0, "rate": 0})],
    "io.pyfix.Bounce": [("Append", {"queue_id": ID, "log": "defer", "entries": [ENTRY]}, BAD_ACTION)],
    "io.pyfix.Cleanup": [
        (
            "Commit",
            {},
            ("io.pyfix.Cleanup.Refused", {"code": 451, "status": "4.3.0", "text": "Error: no transaction is open"}),
        )
    ],
    "io.pyfix.Control": [
        ("Change", {"action": "hold", "queue_ids": [ID], "queues": []}, ("io.pyfix.Control.Denied", {})),
    ],
    "io.pyfix.Flush": [("FlushMessage", {"queue_id": ID}, {"status": "ok"})],
    "io.pyfix.Delivery": [("Deliver", DELIVERY, NO_DESCRIPTOR)],  # but of those that do not read the message
    "io.pyfix.Postdrop": [("Commit", {}, ("io.pyfix.Postdrop.Refused", None))],
    "io.pyfix.Queue": [("Announce", {"queue_id": ID}, {})],
    "io.pyfix.Register": [("Send", {"site": "example.com"}, {"status": "deny"})],
    "io.pyfix.Resolver": [
        (
            "Lookup",
            {"name": "localhost", "type": "A", "hosts": True},
            {"status": "ok", "records": [{"value": "127.0.0.1", "preference": 0}], "secure": False, "reason": ""},
        )
    ],
    "io.pyfix.Rewrite": [
        ("Rewrite", {"ruleset": "local", "addresses": ["bob"]}, {"addresses": ["bob@mail.here.example"]}),
    ],
    "io.pyfix.Showq": [("List", {}, ("org.varlink.service.ExpectedMore", {}))],
}
AS_GROUP = ["setpriv", "--reuid=nobody", "--regid=pyfix", "--clear-groups"]
AS_USER = ["runuser", "-u", "bob", "--"]
FOREIGN = """
import json, sys, varlink
address, interface, method, parameters = sys.argv[1:]
with varlink.Client.new_with_address("unix:" + address) as client:
    print(json.dumps(sorted(client.get_interfaces())))
    with client.open(interface) as connection:
        try:
            reply = getattr(connection, method)(**json.loads(parameters))
            print(json.dumps(["reply", json.loads(json.dumps(reply))]))
        except varlink.VarlinkError as error:
            print(json.dumps([error.error(), error.parameters()]))
    with client.open("org.varlink.service") as connection:
        try:
            connection.GetInterfaceDescription("io.pyfix.Nothing")
        except varlink.VarlinkError as error:
            print(json.dumps([type(error).__name__, error.error(), error.parameters()]))
"""


@pytest.fixture(scope="module")
def host(installed, network):
    with MailHost(installed, "here", network, myhostname="mail.here.example", myorigin="mail.here.example") as host:
        yield host


@pytest.fixture(params=SOCKETS, ids=lambda path: path.split("/")[3])
def path(request):
    return request.param


def varlinkctl(host, *words, user=AS_GROUP, check=True):
    return host.run([*user, "varlinkctl", *words], check=check)


def interface_of(path):
    return path.rpartition("/")[2]


def assert_answer(answer, expected):
    """``answer``: the reply, or an error's name with its parameters; parameters that are not known are not compared."""
    if isinstance(expected, tuple) and expected[1] is None:
        assert answer[0] == expected[0]
    else:
        assert answer == expected


def call(host, path, method, parameters, user=AS_GROUP):
    """What varlinkctl prints: the reply, or the error and its parameters."""
    words = ("call", "--json=short", f"unix:{path}", f"{interface_of(path)}.{method}", json.dumps(parameters))
    done = varlinkctl(host, *words, user=user, check=False)
    answer = json.loads(done.stdout)
    return (re.search(r" failed: (\S+)\n", done.stderr)[1], answer) if done.returncode else answer


def calls(path):
    """As CALLS has them."""
    if path.split("/")[3] in {"discard", "error", "retry"}:
        return [("Deliver", DELIVERY, {"outcomes": [], "unreachable_dsn": "", "unreachable": ""})]
    return CALLS[interface_of(path)]


def test_the_public_sockets_are_these():
    assert {path for path, mode in SOCKETS.items() if mode == "0666"} == PUBLIC
    assert {mode for path, mode in SOCKETS.items() if path not in PUBLIC} == {"0660"}
    assert {interface_of(path) for path in SOCKETS} == CALLS.keys()


def test_info_and_introspection(host, path):
    interface = interface_of(path)
    info = json.loads(varlinkctl(host, "info", "--json=short", f"unix:{path}").stdout)
    assert (info["vendor"], info["product"]) == ("pyfix", "pyfix")
    assert re.fullmatch(r"\d+\.\d+.*", info["version"])
    assert info["interfaces"] == [interface, "org.varlink.service"]
    text = varlinkctl(host, "introspect", f"unix:{path}", interface).stdout
    assert f"\ninterface {interface}\n" in text
    assert "\nmethod " in text
    methods = varlinkctl(host, "list-methods", f"unix:{path}", interface).stdout.split()
    assert {f"{interface}.{method}" for method, _, _ in CALLS[interface]} <= set(methods)


def test_calls_of_varlinkctl(host, path):
    for method, parameters, expected in calls(path):
        assert_answer(call(host, path, method, parameters), expected)
    error = call(host, path, "NoSuchMethod", {})
    assert error == ("org.varlink.service.MethodNotFound", {"method": f"{interface_of(path)}.NoSuchMethod"})


def test_calls_of_python3_varlink(host, path):
    interface = interface_of(path)
    for method, parameters, expected in calls(path):
        out = host.run([*AS_GROUP, "python3", "-c", FOREIGN, path, interface, method, json.dumps(parameters)]).stdout
        interfaces, answer, refusal = map(json.loads, out.splitlines())
        assert interfaces == [interface, "org.varlink.service"]
        assert_answer(answer[1] if answer[0] == "reply" else tuple(answer), expected)
        assert refusal == [
            "InterfaceNotFound",
            "org.varlink.service.InterfaceNotFound",
            {"interface": "io.pyfix.Nothing"},
        ]


def test_who_may_call(host, path):
    done = varlinkctl(host, "info", f"unix:{path}", user=AS_USER, check=False)
    if path in PUBLIC:
        assert done.returncode == 0
    else:
        assert done.returncode == 1
        assert "Permission denied" in done.stderr
    assert varlinkctl(host, "info", f"unix:{path}", user=()).returncode == 0


def test_what_users_may_not(host):
    """Everybody may connect to the control socket; who may change the queue, SO_PEERCRED says."""
    path = "/run/pyfix/control/io.pyfix.Control"
    change = {"action": "delete", "queue_ids": [ID], "queues": []}
    assert call(host, path, "Change", change, user=AS_USER) == ("io.pyfix.Control.Denied", {})
    assert call(host, path, "Change", change, user=()) == {"queue_ids": []}


def test_lists_of_users(host):
    """Who may see the queue and have it flushed is decided by the services, not by the command."""
    flush, showq = "/run/pyfix/flush/io.pyfix.Flush", "unix:/run/pyfix/showq/io.pyfix.Showq"
    host.run(["postconf", "-e", "authorized_flush_users=root", "authorized_mailq_users=!bob, static:anyone"])
    host.reload()
    uid = int(host.run(["id", "-u", "bob"]).stdout)
    stranger = {"user": "bob", "uid": uid}
    assert call(host, flush, "FlushAll", {}, user=AS_USER) == ("io.pyfix.Flush.Denied", stranger)
    assert call(host, flush, "FlushAll", {}, user=()) == {"status": "ok"}
    listing = varlinkctl(host, "call", "--more", showq, "io.pyfix.Showq.List", "{}", user=AS_USER, check=False)
    assert "io.pyfix.Showq.Denied" in listing.stdout + listing.stderr
    done = host.run([*AS_USER, "mailq"], check=False)
    text = f"postqueue: fatal: User bob({uid}) is not allowed to view the mail queue\n"
    assert (done.returncode, done.stdout, done.stderr) == (69, "", text)
    host.run(["postconf", "-X", "authorized_flush_users", "authorized_mailq_users"])
    host.reload()
    assert call(host, flush, "FlushAll", {}, user=AS_USER) == {"status": "ok"}


def test_a_stream(host):
    host.run(["postconf", "-e", "local_transport=retry:4.3.0 not now"])
    host.reload()
    host.sendmail("bob", "alice", "Subject: waits\n\nbody\n")
    host.wait_until(lambda: any(m["queue_name"] == "deferred" for m in host.queue()), "a deferred message")
    words = ("call", "--collect", "--json=short", "unix:/run/pyfix/showq/io.pyfix.Showq", "io.pyfix.Showq.List", "{}")
    pages = json.loads(varlinkctl(host, *words, user=AS_USER).stdout)
    assert pages[-1] == {"messages": []}
    (message,) = (message for page in pages for message in page["messages"])
    assert (message["queue_name"], message["sender"]) == ("deferred", "bob@mail.here.example")
    (recipient,) = message["recipients"]
    assert (recipient["address"], recipient["kind"]) == ("alice@mail.here.example", "delay")
    assert recipient["reason"] == "not now"
