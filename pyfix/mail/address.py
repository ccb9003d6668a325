"""Addresses: internal and quoted form, and the addresses inside a header field.

Roles exchange addresses in *internal form*: the local part without quotes or backslashes, then ``@``, then the
domain. The local part ends at the **last** ``@``. Quotes are put on where an address enters a header or an SMTP
command, and taken off where it leaves one.

The parser reads what Postfix reads, which is more than RFC 5322 allows:

* addresses may be separated by white space alone: ``a@b c@d`` are two;
* words before ``<`` are a phrase, whatever they look like; words after ``>`` are addresses again;
* ``name:`` begins a group only if a ``;`` follows somewhere, otherwise the colon is part of an address;
* a route (``<@a,@b:user@c>``) is dropped, as RFC 5321 section 4.1.1.3 tells;
* white space and comments inside an address do not count; an unterminated quoted string, comment or
  domain literal ends with the field; a ``<`` or ``>`` without its partner is ignored.

An address that comes out of the parser holds no control character. The parser uses neither recursion nor
backtracking, and reads no more tokens than it is told.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class AddressError(ValueError):
    """A text is not exactly one address; the message says in what way and may be shown to a peer."""


class Mailbox(NamedTuple):
    """An address found in a header field."""

    # internal form; empty for "<>"
    address: str
    # where its text stands in the field; between < and > where it has them
    start: int
    end: int
    # the text also holds a route, which is not part of the address
    route: bool = False
    # only white space stands between this address and the one before it
    comma_missing: bool = False


_CONTROLS = dict.fromkeys((*range(32), 127))
_CONTROLS_SHOWN = dict.fromkeys((*range(32), 127), "?")

# RFC 5321 section 4.1.2 Dot-string, with the characters above ASCII of RFC 6531.
_DOT_STRING = re.compile(r'[^\x00-\x20\x7f()<>@,;:\\".\[\]]+(?:\.[^\x00-\x20\x7f()<>@,;:\\".\[\]]+)*')

# The commonest addresses of all: what is written as it is.
_UNQUOTED = re.compile(_DOT_STRING.pattern + r"@[^@\x00-\x1f\x7f]*+")

_ADDRESS = r"""ATOM++ (?: \. ATOM++ )* @ ATOM++ (?: \. ATOM++ )*""".replace(
    "ATOM", r"""[^\x00-\x20\x7f()<>@,;:\\".\[\]]"""
)
# The commonest fields: one address, alone or in <> behind a phrase.
_SIMPLE = re.compile(
    rf"""
    [ \t\r\n]*+
    (?: (?P<bare>{_ADDRESS})
      | (?: " [^"\\\x00-\x1f\x7f]*+ " [ \t]*+ | [^\x00-\x08\x0e-\x1f\x7f"(),:;<>\[\]\\]*+ ) < (?P<angle>{_ADDRESS}) >
    )
    [ \t\r\n]*+
    """,
    re.VERBOSE,
)

# One token of a field. A word may contain dots and at-signs. The possessive repeats of single characters never
# backtrack; those of groups are plain, since nothing behind them can fail (and CPython before 3.11.5 mistakes
# possessive groups, python/cpython#106052).
_TOKEN = re.compile(
    r"""
      (?P<space>   [\x00-\x20\x7f]++ )
    | (?P<word>    (?: [^\x00-\x20\x7f()<>,;:"\[\]\\]++ | \\. | \\\Z )+ )
    | (?P<quoted>  " (?: [^"\\]++ | \\. )* (?: " | \\?\Z ) )
    | (?P<literal> \[ (?: [^\[\]\\]++ | \\. )* (?: \] | \\?\Z )? )
    | (?P<special> [()<>,;:\]] )
    """,
    re.VERBOSE | re.DOTALL,
)
_BINDING = (".", "@", ":")
_IN_COMMENT = re.compile(r"[()\\]")
_BACKSLASH = re.compile(r"\\(.)|\\\Z", re.DOTALL)


def split_address(address: str) -> tuple[str, str]:
    """The local part and the domain of an address in internal form; no domain: ``""``."""
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (domain, "")


def quote_local(local: str) -> str:
    """A local part as it is written in SMTP commands and headers: in quotes, unless it is a Dot-string.

    Control characters, which no quoted form allows (RFC 5321 section 4.1.2), are shown as ``?``.
    """
    if _DOT_STRING.fullmatch(local):
        return local
    text = local.translate(_CONTROLS_SHOWN).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def quote_address(address: str) -> str:
    """An address in internal form as it is written in SMTP commands and headers; ``""`` stays ``""``."""
    if not address or _UNQUOTED.fullmatch(address):
        return address
    local, at, domain = address.rpartition("@")
    if not at:
        return quote_local(domain)
    return f"{quote_local(local)}@{domain.translate(_CONTROLS_SHOWN)}"


def parse_address(text: str, limit: int) -> str:
    """The one address that a text consists of, with or without ``<>``, in internal form; ``<>`` is ``""``.

    Raises :class:`AddressError` if there is none, more than one, or more than ``limit`` tokens.
    """
    tokens = _tokens(text, limit + 1)
    if len(tokens) > limit:
        raise AddressError("address too long")
    found = _Parser(tokens).parse()
    if not found:
        raise AddressError("no address")
    if len(found) > 1:
        raise AddressError("more than one address")
    return found[0].address


def parse_addresses(text: str, limit: int) -> list[Mailbox]:
    """The addresses of a header field's body in their order, from its first ``limit`` tokens."""
    if simple := _SIMPLE.fullmatch(text):
        kind = simple.lastgroup or ""
        return [Mailbox(simple[kind], *simple.span(kind))]
    return _Parser(_tokens(text, limit)).parse()


def rewrite_addresses(text: str, rewrite: Callable[[str], str], limit: int) -> str:
    """A header field's body with every address replaced by ``rewrite(address)``.

    ``rewrite`` takes and gives internal form. The text of an address that does not change stays as it is, and so does
    everything between addresses; the comments inside an address that changes are put behind it. Only if an
    address changes are the commas put in that RFC 5322 asks for and the field lacks.
    """
    if simple := _SIMPLE.fullmatch(text):
        kind = simple.lastgroup or ""
        address = simple[kind]
        rewritten = rewrite(address)
        if not rewritten or rewritten == address:
            return text
        start, end = simple.span(kind)
        return f"{text[:start]}{quote_address(rewritten)}{text[end:]}"
    changes: list[tuple[Mailbox, str]] = []
    changed = False
    for mailbox in parse_addresses(text, limit):
        rewritten = rewrite(mailbox.address) if mailbox.address else ""
        differs = rewritten != mailbox.address or mailbox.route
        changed = changed or differs
        if differs or mailbox.comma_missing:
            changes.append((mailbox, rewritten if differs else ""))
    if not changed:
        return text
    pieces: list[str] = []
    done = 0
    for mailbox, rewritten in changes:
        start, end = mailbox.start, mailbox.end
        before = text[done:start]
        pieces.append(_with_comma(before) if mailbox.comma_missing else before)
        if rewritten:
            pieces += (quote_address(rewritten), _comments(text[start:end], limit))
        else:
            pieces.append(text[start:end])
        done = end
    pieces.append(text[done:])
    return "".join(pieces)


class _Token(NamedTuple):
    # "word" (with quoted strings and literals), "comment", or the special character itself
    kind: str
    # in internal form
    text: str
    start: int
    end: int
    # a word that came out of quotes: its dots and at-signs bind nothing
    quoted: bool = False


def _tokens(text: str, limit: int) -> list[_Token]:
    """The first ``limit`` tokens of a text without white space."""
    tokens: list[_Token] = []
    position = 0
    match = _TOKEN.match
    while len(tokens) < limit and (found := match(text, position)):
        start, position = found.span()
        kind = found.lastgroup or ""
        if kind == "word":
            tokens.append(_word(found[0], start, position))
        elif kind == "quoted":
            tokens.append(_quoted(found[0], start, position))
        elif kind == "literal":
            tokens.append(_Token("word", found[0].translate(_CONTROLS), start, position))
        elif kind == "special":
            kind = found[0]
            if kind == "(":
                position = _comment_end(text, start)
                tokens.append(_Token("comment", "", start, position))
            elif kind not in ")]":
                tokens.append(_Token(kind, kind, start, position))
    return tokens


def _word(text: str, start: int, end: int) -> _Token:
    if "\\" not in text:
        return _Token("word", text, start, end)
    return _Token("word", _BACKSLASH.sub(r"\1", text).translate(_CONTROLS), start, end, text.startswith("\\"))


def _quoted(text: str, start: int, end: int) -> _Token:
    inner = text[1:-1] if text.endswith('"') and len(text) > 1 else text[1:]
    if "\\" in inner:
        inner = _BACKSLASH.sub(r"\1", inner)
    return _Token("word", inner.translate(_CONTROLS), start, end, quoted=True)


def _comment_end(text: str, start: int) -> int:
    """The position behind the comment that starts there; comments nest."""
    depth = 0
    position = start
    while found := _IN_COMMENT.search(text, position):
        position = found.end()
        if found[0] == "(":
            depth += 1
        elif found[0] == "\\":
            position += 1
        else:
            depth -= 1
            if depth == 0:
                return position
    return len(text)


def _comments(text: str, limit: int) -> str:
    if "(" not in text:
        return ""
    return "".join(" " + text[t.start : t.end] for t in _tokens(text, limit) if t.kind == "comment")


def _with_comma(before: str) -> str:
    """What stands before an address, with a comma in front of the white space and the < that it ends with."""
    head = before.rstrip(" \t\r\n<")
    return f"{head},{before[len(head) :] or ' '}"


class _Parser:
    """Groups the tokens of a field into addresses."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._found: list[Mailbox] = []
        # words since the last separator: a phrase if "<" follows, else addresses
        self._words: list[_Token] = []
        # an address was found since the last separator
        self._comma_missing = False

    def parse(self) -> list[Mailbox]:
        tokens = self._tokens
        kinds = [token.kind for token in tokens]
        last_close = _last(kinds, ">")
        last_semicolon = _last(kinds, ";")
        index = 0
        while index < len(tokens):
            token = tokens[index]
            kind = token.kind
            if kind == "word" or (kind == ":" and index > last_semicolon):
                self._words.append(token)
            elif kind == ":":
                self._words.clear()
            elif kind in {",", ";"}:
                self._flush()
                self._comma_missing = False
            elif kind == "<" and index < last_close:
                self._words.clear()
                close = kinds.index(">", index)
                self._angle(index, close)
                index = close
            index += 1
        self._flush()
        return self._found

    def _angle(self, opening: int, closing: int) -> None:
        """The address between < and >, whatever words it has."""
        parts = [token for token in self._tokens[opening + 1 : closing] if token.kind != "comment"]
        route = 0
        if parts and parts[0].text.startswith("@") and not parts[0].quoted:
            route = next((place + 1 for place, part in enumerate(parts) if part.kind == ":"), 0)
        address = "".join([part.text for part in parts[route:]])
        start, end = self._tokens[opening].end, self._tokens[closing].start
        self._found.append(Mailbox(address, start, end, route > 0, self._comma_missing))
        self._comma_missing = True

    def _flush(self) -> None:
        """The words since the last separator, each an address unless a dot, an at-sign or a colon joins them."""
        run: list[_Token] = []
        for token in self._words:
            if run and not (_binds(run[-1], at_end=True) or _binds(token, at_end=False)):
                self._add(run)
                run = []
            run.append(token)
        if run:
            self._add(run)
        self._words.clear()

    def _add(self, run: list[_Token]) -> None:
        address = "".join([token.text for token in run])
        if not address.strip(":"):
            return  # a colon that joins nothing is no address
        self._found.append(Mailbox(address, run[0].start, run[-1].end, comma_missing=self._comma_missing))
        self._comma_missing = True


def _binds(token: _Token, *, at_end: bool) -> bool:
    if token.quoted:
        return False
    return token.text.endswith(_BINDING) if at_end else token.text.startswith(_BINDING)


def _last(kinds: list[str], kind: str) -> int:
    return next((index for index in range(len(kinds) - 1, -1, -1) if kinds[index] == kind), -1)
