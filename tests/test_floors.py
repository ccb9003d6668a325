"""The house rules that imports show: DESIGN's floors, where I/O may be done, and what an __init__.py may hold."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "pyfix"

FLOORS = {
    **dict.fromkeys(("conf", "wire", "mail"), 1),
    "system": 2,
    "tables": 3,
    "net": 4,
    "spool": 5,
    "service": 6,
    **dict.fromkeys(("access", "intake", "rewriting", "schedule", "deliver", "outbound", "report"), 7),
    **dict.fromkeys(("roles", "commands", "generator"), 8),
}

PURE = ("wire", "mail", "access", "intake", "rewriting", "schedule", "deliver", "outbound", "report")
"""Folders without I/O and without a clock."""

PRIMITIVES = {
    *("socket", "_socket", "signal", "subprocess", "pwd", "grp", "fcntl", "resource", "systemd", "time"),
    *("select", "selectors", "multiprocessing", "threading", "syslog", "psutil", "daemon", "mmap", "ctypes"),
}
"""What only system/ imports."""

NOT_PURE = PRIMITIVES | {
    *("os", "io", "pathlib", "shutil", "tempfile", "glob", "asyncio", "uvloop", "logging", "random", "datetime"),
    *("posix", "lmdb", "dns", "urllib", "http", "smtplib"),
}
"""What folders without I/O do not import."""

ALLOWED: dict[tuple[str, str], str] = {
    ("commands/postcat.py", "time"): "writes moments as local time; reads no clock",
    ("commands/postsuper.py", "time"): "its start must not wait for more of system/",
    ("commands/sendmail.py", "pwd"): "its start must not wait for more of system/",
    ("mail/date.py", "time"): "breaks moments into fields; reads no clock",
    ("outbound/hosts.py", "asyncio"): "asks several questions at once; whom it asks is its caller's",
    ("outbound/session.py", "asyncio"): "an asyncio.Protocol around the SMTP client machine",
    ("roles/local.py", "signal"): "a worker that finishes its delivery before it ends",
    ("roles/local.py", "socket"): "the type of what it is handed",
    ("roles/local.py", "time"): "breaks moments into fields; reads no clock",
    ("roles/resolver.py", "socket"): "the kind of what dnspython makes",
    ("service/blocking.py", "socket"): "the type of what it is handed",
    ("service/forking.py", "select"): "the skeleton of forking roles",
    ("service/forking.py", "signal"): "the skeleton of forking roles",
    ("service/forking.py", "socket"): "the skeleton of forking roles",
    ("service/role.py", "signal"): "the skeleton of roles",
    ("service/role.py", "socket"): "the skeleton of roles",
    ("service/server.py", "socket"): "the type of what it is handed",
    ("spool/change.py", "time"): "a message that is released is due now",
    ("tables/lmdb_file.py", "fcntl"): "Postfix's lock on the table's file",
}
"""(file, module) -> why this one may."""

MODULES = sorted(ROOT.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]


def imports(path):
    """The modules that a file imports, wherever in it, with line numbers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module, node.lineno
            if node.module == "pyfix" or node.module.count(".") == 1:
                # "from pyfix.service import cleanup" imports a module too
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def folder(path):
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def test_every_folder_has_a_floor():
    assert {folder(path) for path in MODULES} - {""} <= set(FLOORS)
    assert [path.name for path in MODULES if not folder(path)] == ["__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_a_module_imports_from_its_own_folder_or_a_lower_floor(path):
    wrong = []
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] != "pyfix" or len(parts) < 2:
            continue
        own, other = folder(path), parts[1]
        is_own = other == own and own != "roles"
        if not is_own and FLOORS.get(other, 9) >= FLOORS[own]:
            wrong.append(f"line {line}: {name}")
    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_only_system_touches_the_world(path):
    forbidden = NOT_PURE if folder(path) in PURE else PRIMITIVES if folder(path) != "system" else set()
    if folder(path) in FLOORS and FLOORS[folder(path)] < 6 and folder(path) != "system":
        forbidden = forbidden | {"asyncio", "uvloop"}
    file = str(path.relative_to(ROOT))
    wrong = [
        f"line {line}: {name}"
        for name, line in imports(path)
        if name.split(".")[0] in forbidden and (file, name.split(".")[0]) not in ALLOWED
    ]
    assert wrong == []


def test_exceptions_are_still_needed():
    used = {(str(path.relative_to(ROOT)), name.split(".")[0]) for path in MODULES for name, _ in imports(path)}
    assert set(ALLOWED) - used == set()


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=lambda p: str(p.parent.name))
def test_an_init_file_holds_a_docstring_alone(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_no_email_package(path):
    """It recurses on hostile mail, and takes quadratic time."""
    assert not [name for name, _ in imports(path) if name.split(".")[0] == "email"]


def length(path):
    """Lines without the module's docstring, which in a role is its manual page."""
    text = path.read_text()
    first = ast.parse(text).body[0]
    manual = first.end_lineno if isinstance(first, ast.Expr) else 0
    return text.count("\n") - manual


def test_sizes_ring_a_bell():
    lengths = {str(path.relative_to(ROOT)): length(path) for path in MODULES if path.read_text()}
    limits = {name: 300 if name.startswith("roles/") else 500 for name in lengths}
    assert {name: length for name, length in lengths.items() if length > limits[name]} == {}


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_functions_are_short(path):
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 50
    ]
    assert long == []
