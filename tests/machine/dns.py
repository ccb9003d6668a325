"""A real DNS server for test machines: Debian's unbound.

It is what resolv.conf names on a mail host: a recursive server, which says so (RA), follows aliases from zone to zone,
counts TTLs down and remembers what does not exist. nsd and knot answer for their own zones only, and refuse the rest.
Its zones are ordinary zone files; a machine that serves DNS has ``PACKAGE`` in its tree.
"""

PACKAGE = "unbound"

_SERVER = """\
server:
    interface: 0.0.0.0
    access-control: 10.0.0.0/8 allow
    # private addresses have names here
    local-zone: "10.in-addr.arpa." nodefault
    # there is no root to ask for keys
    module-config: "iterator"
remote-control:
    control-enable: no
"""
_ZONE = """\
auth-zone:
    name: "{name}"
    zonefile: "/etc/unbound/{name}.zone"
    for-downstream: no
"""
_HEAD = """\
$ORIGIN {name}.
$TTL 300
@ SOA ns root 1 3600 600 86400 300
@ NS ns
ns A {address}
"""


class DnsServer:
    """Serves zones, ``{"there.example": ["@ MX 10 mail", "mail A 10.77.0.3"]}``, from a machine."""

    def __init__(self, machine, zones):
        self._machine = machine
        for name, records in zones.items():
            text = _HEAD.format(name=name, address=machine.address) + "".join(f"{record}\n" for record in records)
            machine.write(f"/etc/unbound/{name}.zone", text)
        configuration = _SERVER + "".join(_ZONE.format(name=name) for name in zones)
        machine.write("/etc/unbound/unbound.conf", configuration)
        # As Debian configures it, it has failed: the root's keys come with another package.
        machine.run("systemctl reset-failed unbound && systemctl restart unbound")

    def start(self):
        self._machine.run("systemctl start unbound")

    def stop(self):
        """Nobody answers any more; packets are refused at once."""
        self._machine.run("systemctl stop unbound")

    def serve(self, machine):
        """Makes a machine ask this server: resolv.conf is replaced by renaming, as programs do that manage it."""
        text = f"nameserver {self._machine.address}\noptions timeout:1 attempts:2\n"
        machine.write("/etc/resolv.conf.new", text)
        machine.run("mv /etc/resolv.conf.new /etc/resolv.conf")


def reverse_zone(prefix, names):
    """The zone of a network's addresses: ``reverse_zone("10.77.0", {2: "mail.here.example"})``."""
    zone = ".".join(reversed(prefix.split("."))) + ".in-addr.arpa"
    return {zone: [f"{number} PTR {name}." for number, name in names.items()]}
