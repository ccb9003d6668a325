from pyfix.access.received import Client, Hop, attributes, opening, received
from pyfix.service.cleanup import Recipient
from pyfix.wire.envelope import Transaction
from pyfix.wire.smtp_dialogue import Mail, Rcpt

CLIENT = Client("client.example", "192.0.2.1", 4711)


def test_a_single_recipient_is_named():
    header = received(Hop(CLIENT, "hello", "ESMTP"), "mx (pyfix)", "QID", ["a b@c"], "DATE")
    assert header == (
        'Received: from hello (client.example [192.0.2.1])\n\tby mx (pyfix) with ESMTP id QID\n\tfor <"a b"@c>; DATE'
    )


def test_several_recipients_are_not():
    hop = Hop(Client("unknown", "2001:db8::1", 1), "", "SMTP")
    assert received(hop, "mx (pyfix)", "QID", ["a", "b"], "DATE") == (
        "Received: from unknown (unknown [IPv6:2001:db8::1])\n\tby mx (pyfix) with SMTP id QID;\n\tDATE"
    )


def test_international_mail_is_marked():
    assert "with UTF8SMTP id" in received(Hop(CLIENT, "h", "ESMTP", smtputf8=True), "mx", "QID", ["a"], "DATE")


def test_attributes():
    assert attributes(Hop(CLIENT, "hello", "ESMTP"), "remote") == {
        "rewrite_context": "remote",
        "log_client_name": "client.example",
        "log_client_address": "192.0.2.1",
        "log_client_port": "4711",
        "log_message_origin": "client.example[192.0.2.1]",
        "log_protocol_name": "ESMTP",
        "log_helo_name": "hello",
        "client_name": "client.example",
        "reverse_client_name": "unknown",
        "client_address": "192.0.2.1",
        "client_port": "4711",
        "client_address_type": "2",
        "helo_name": "hello",
        "protocol_name": "ESMTP",
    }
    other = attributes(Hop(Client("u", "2001:db8::1", 1), "", "SMTP"), "local")
    assert (other["log_client_address"], other["client_address"]) == ("IPv6:2001:db8::1", "2001:db8::1")
    assert other["client_address_type"] == "10"
    assert "helo_name" not in other


def test_opening():
    transaction = Transaction(Mail("s@x", 5, "8bit", smtputf8=True, envid="e", ret="HDRS"))
    transaction.queue_id = "QID"
    transaction.recipients += [Rcpt("r@x", "rfc822;o", 6)]
    opened = opening(transaction, "Received: x", {"a": "b"}, 123)
    assert opened.recipients == (Recipient("r@x", "rfc822;o", 6),)
    assert (opened.queue_id, opened.sender, opened.arrival_usec, opened.trace) == ("QID", "s@x", 123, "Received: x")
    assert (opened.encoding, opened.smtputf8, opened.envid, opened.ret) == ("8bit", True, "e", "HDRS")
    assert opened.attributes == {"log_ident": "QID", "a": "b"}
