"""A small DNS server, UDP and TCP on one port, for tests; its zone may change while it runs."""

import contextlib
import socket
import struct
import threading

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

SOA = "ns.example. root.example. 1 2 3 4 60"


class DnsServer:
    """Answers from ``zone``: {("name", "MX"): ["10 mx.example."]}.

    A value may also be "SERVFAIL", "REFUSED", "NOTIMP", "FORMERR" (to queries with EDNS; others get the value under
    "PLAIN"), "DROP" (no answer), "JUNK" (bytes that are no message), or a function that makes the bytes from an empty
    response. A name that is in no key does not exist. CNAMEs are followed as a recursive server does, unless ``chase``
    is off. ``queries`` has all questions.
    """

    def __init__(self, zone=None, address=("127.0.0.1", 0), *, authentic=False, chase=True, ttl=300):
        self.zone = dict(zone or {})
        self.queries = []
        self.authentic = authentic
        self.chase = chase
        self.ttl = ttl
        self.udp_limit = 1200
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(address)
        self.host, self.port = self._udp.getsockname()
        self._tcp = socket.socket()
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._tcp.bind((self.host, self.port))
        self._tcp.listen(10)
        self._threads = [threading.Thread(target=target) for target in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    def close(self):
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (self.host, self.port))  # wakes recvfrom, which shutdown() does not
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def _serve_udp(self):
        while True:
            try:
                data, peer = self._udp.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            answer = self._answer(data, "udp")
            if answer is not None:
                self._udp.sendto(answer, peer)

    def _serve_tcp(self):
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                (size,) = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
                answer = self._answer(connection.recv(size, socket.MSG_WAITALL), "tcp")
                if answer is not None:
                    connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, data, transport):
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append((name, kind, transport))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if self.authentic:
            response.flags |= dns.flags.AD
        for _ in range(20):
            found = self.zone.get((name, kind))
            if found is not None or not self.chase or (name, "CNAME") not in self.zone:
                break
            target = self.zone[name, "CNAME"][0]
            response.answer.append(dns.rrset.from_text(f"{name}.", self.ttl, "IN", "CNAME", target))
            name = target.rstrip(".").lower()
        if found is None and not self.chase and (name, "CNAME") in self.zone:
            target = self.zone[name, "CNAME"][0]
            response.answer.append(dns.rrset.from_text(f"{name}.", self.ttl, "IN", "CNAME", target))
            return response.to_wire()
        return self._finish(response, name, kind, found, transport)

    def _finish(self, response, name, kind, found, transport):
        if callable(found):
            return found(response)
        if found == "DROP":
            return None
        if found == "JUNK":
            return struct.pack("!H", response.id) + b"\x80\x00\xff"
        if found in ("SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"):
            if found == "FORMERR" and response.edns < 0:
                found = self.zone[name, "PLAIN"]
            else:
                response.set_rcode(dns.rcode.from_text(found))
                return response.to_wire()
        if isinstance(found, list):
            response.answer.append(dns.rrset.from_text(f"{name}.", self.ttl, "IN", kind, *found))
        elif found is None:
            if not any(known == name for known, _ in self.zone):
                response.set_rcode(dns.rcode.NXDOMAIN)
            response.authority.append(dns.rrset.from_text("example.", 300, "IN", "SOA", SOA))
        wire = response.to_wire(max_size=65535)
        if transport == "udp" and len(wire) > self.udp_limit:
            response.answer.clear()
            response.flags |= dns.flags.TC
            return response.to_wire()
        return wire


@contextlib.contextmanager
def dns_server(zone=None, **options):
    server = DnsServer(zone, **options)
    try:
        yield server
    finally:
        server.close()
