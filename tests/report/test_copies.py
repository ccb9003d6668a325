"""Who is told; what is told to whom is in tests/roles/test_bounce.py."""

from hypothesis import given
from hypothesis import strategies as st

from pyfix.report.copies import Addressees
from pyfix.report.template import KINDS

DOUBLE = "double-bounce@mx.example.org"
CLASSES = ("bounce", "2bounce", "data", "delay", "policy", "protocol", "resource", "software")
senders = st.sampled_from(["", DOUBLE, DOUBLE.upper(), "ada@example.com"])


@given(st.sampled_from(KINDS), senders, st.frozensets(st.sampled_from(CLASSES)), st.sampled_from(["", "FULL", "HDRS"]))
def test_a_bounce_of_a_bounce_never_leaves(kind, sender, classes, ret):
    addressees = Addressees(DOUBLE, classes, "postmaster", "twice", "late")
    copies, instead = addressees.copies(kind, sender, ret)
    assert sum(copy.recipient == sender for copy in copies) == (sender == "ada@example.com")
    assert sum(copy.sender == "" for copy in copies) == (sender == "ada@example.com")
    assert all(copy.sender in ("", DOUBLE) for copy in copies)
    assert all(copy.notify == (1 if copy.sender == "" else 0) for copy in copies)
    assert len(copies) <= 2
    if sender.lower() == DOUBLE:
        assert copies == []
        assert instead
