"""What the code reads is what the declarations say is implemented."""

import ast
from pathlib import Path

from pyfix.conf.expand import names_in
from pyfix.conf.parameter import TRANSPORT, every, find

PACKAGE = Path(__file__).parents[2] / "pyfix"
KINDS = {
    "text": {"text", "raw", "words"},
    "unexpanded": {"text", "raw", "words"},
    "words": {"words"},
    "integer": {"integer"},
    "seconds": {"seconds"},
    "boolean": {"boolean"},
}
RECEIVERS = {"conf", "_conf", "config", "_config"}
# What the machine decides, what postconf alone shows, and what only stands in other values.
GIVEN = {"compatibility_level", "config_directory", "mail_version", "mydomain", "process_id", "process_name", "stress"}
# Read only to tell whether a recipient exists; nothing rewrites addresses by them, so that setting them is reported.
PARTLY = {"canonical_maps", "recipient_canonical_maps", "virtual_alias_maps", "virtual_maps"}
# Those whose parameters are declared beside the ones that every transport has.
TRANSPORTS = {"lmtp", "local", "relay", "smtp", "virtual"}
# Strings in the code that are not about the parameter of that name.
OTHER_MEANINGS = {"content_filter"}


def trees():
    for path in sorted(PACKAGE.rglob("*.py")):
        if "declared" not in path.parts:
            yield path.relative_to(PACKAGE.parent), ast.parse(path.read_text())


def reads(tree):
    """Each conf.METHOD("name") as line, method and name; a transport's as transport_name."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        receiver, first = node.func.value, node.args[0]
        name = receiver.attr if isinstance(receiver, ast.Attribute) else getattr(receiver, "id", "")
        if name in RECEIVERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
            method = node.func.attr
            if method in KINDS:
                yield node.lineno, method, first.value
            elif method.removeprefix("service_") in KINDS:
                yield node.lineno, method.removeprefix("service_"), f"{TRANSPORT}_{first.value}"


def closed(names):
    """The names with those that their defaults refer to."""
    pending, found = list(names), set(names)
    while pending:
        parameter = find(pending.pop())
        for name in names_in(parameter.default) - found if parameter else ():
            found.add(name)
            pending.append(name)
    return found


def mentioned():
    """The declared names that stand in the code as strings."""
    declared = {parameter.name for parameter in every()}
    found = set()
    for _path, tree in trees():
        found |= {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        found |= {name for _line, _method, name in reads(tree)}
    # smtp_destination_recipient_limit is transport_destination_recipient_limit of the transport smtp.
    for name in declared:
        service, _, rest = name.partition("_")
        if service in TRANSPORTS and f"{TRANSPORT}_{rest}" in found:
            found.add(name)
    return found & declared


def test_every_read_name_is_declared_with_that_kind():
    wrong = []
    for path, tree in trees():
        for line, method, name in reads(tree):
            parameter = find(name)
            if parameter is None or parameter.kind not in KINDS[method]:
                wrong.append(
                    f"{path}:{line}: {name} is {parameter.kind if parameter else 'not declared'}, read as {method}"
                )
    assert not wrong, "\n".join(wrong)


def test_every_name_in_the_code_is_marked_implemented():
    """In pyfix/conf/declared the fourth value of a declaration says whether pyfix implements the parameter."""
    names = closed(mentioned() - OTHER_MEANINGS) - PARTLY
    assert not {name for name in names if not (parameter := find(name)) or not parameter.implemented}


def test_nothing_else_is_marked_implemented():
    implemented = {parameter.name for parameter in every() if parameter.implemented}
    assert not implemented - closed(mentioned()) - GIVEN
