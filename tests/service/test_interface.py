"""The interface text is made from the types."""

import re
import shutil
import subprocess

import pytest

from pyfix.service import anvil, bounce, cleanup, delivery, flush, postdrop, queue, resolver, rewrite, showq

INTERFACES = [
    anvil.INTERFACE,
    bounce.INTERFACE,
    cleanup.INTERFACE,
    delivery.INTERFACE,
    flush.FLUSH,
    flush.REGISTER,
    postdrop.INTERFACE,
    queue.QUEUE,
    queue.CONTROL,
    resolver.INTERFACE,
    rewrite.INTERFACE,
    showq.INTERFACE,
]


def test_types_methods_and_errors_are_described():
    text = cleanup.INTERFACE.description()
    assert "interface io.pyfix.Cleanup\n" in text
    assert "type Recipient (address: string, orcpt: string, notify: int)" in text
    assert "method Commit() -> (queue_id: string)" in text
    assert "error Refused (code: int, status: string, text: string)" in text
    assert "recipients: []Recipient" in text
    assert "attributes: [string]string" in text


def test_an_error_of_a_kind_is_described():
    assert "error Denied (user: string, uid: int)" in showq.INTERFACE.description()


def test_enumerations_are_described():
    text = queue.CONTROL.description()
    assert "action: (delete, hold, release, requeue, expire)" in text


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda i: i.name)
def test_enumerations_have_names_only(interface):
    for members in re.findall(r": \(([^():]*)\)", interface.description()):
        assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]*", member) for member in members.split(", ")), members


def test_optional_values_are_described():
    assert "sender: ?string" in postdrop.INTERFACE.description()


@pytest.mark.skipif(shutil.which("varlinkctl") is None, reason="varlinkctl is not installed (systemd 255 and later)")
@pytest.mark.parametrize("interface", INTERFACES, ids=lambda i: i.name)
def test_systemd_reads_the_description(interface, tmp_path):
    path = tmp_path / interface.name
    path.write_text(interface.description())
    subprocess.run(["varlinkctl", "validate-idl", path], check=True)
