import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfix.conf.error import ValueTrouble
from pyfix.conf.expand import MAX_LENGTH, expand, names_in

VALUES = {"a": "1", "b": "", "name": "value", "level": "3.9"}


def value(name):
    return VALUES.get(name, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$name", "value"),
        ("x${name}y", "xvaluey"),
        ("$(name)", "value"),
        ("$name.x", "value.x"),
        ("${ name }", "value"),
        ("$unknown|", "|"),
        ("$$name $$", "$name $"),
        ("${name?yes}", "yes"),
        ("${b?yes}", ""),
        ("${name:no}", ""),
        ("${b:no}", "no"),
        ("${name?{yes}}", "yes"),
        ("${name?{yes}:{no}}", "yes"),
        ("${b?{yes}:{no}}", "no"),
        ("${b?{yes} : {no}}", "no"),
        ("${b?{yes}:no}", "no"),
        ("${name?a:b}", "a:b"),
        ("${b:{ spaced  out }}", "spaced  out"),
        ("${b:${name}}", "value"),
        ("${name?{${a?{deep}:{x}}}:{y}}", "deep"),
        ("${{$a} == {1} ? {same} : {other}}", "same"),
        ("${{$a} == {2} ? {same} : {other}}", "other"),
        ("${{$a} != {2}?{differs}}", "differs"),
        ("${{10} > {9}?{as numbers}}", "as numbers"),
        ("${{1} < {02}?{as numbers}}", "as numbers"),
        ("${{b} > {a}?{as text}}", "as text"),
        ("${{1} <= {1}}", "true"),
        ("${{1} >= {2}}", ""),
        ("${{$level} <level {3.11} ? {old} : {new}}", "old"),
        ("${{$level} >=level {3.9.0} ? {new} : {old}}", "new"),
        ("${{2} <level {3.6}?{no}:{yes}}", "no"),
    ],
)
def test_expansion(text, expected):
    assert expand(text, value) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x$", "a dollar sign without a parameter name"),
        ("$ x", "a dollar sign without a parameter name"),
        ("${name", '"{name" lacks its closing "}"'),
        ("$(name", '"(name" lacks its closing ")"'),
        ("${}", 'no parameter name in "${}"'),
        ("${name!x}", '"!" in "${name!x}" is neither "?" nor ":"'),
        ("${name?{a}b}", '"b" after "{a}"'),
        ("${b:{a}b}", '"b" after the last "}"'),
        ("${{1} ~ {2}}", 'no comparison in "${{1} ~ {2}}"'),
        ("${{1} == 2}", '"2" where "{" was expected'),
        ("${{x} <level {3}}", 'bad compatibility level: "x"'),
    ],
)
def test_trouble(text, message):
    with pytest.raises(ValueTrouble) as caught:
        expand(text, value)
    assert caught.value.message == message
    assert caught.value.hint


def test_only_the_chosen_text_is_expanded():
    def fussy(name):
        assert name == "b"
        return ""

    assert expand("${b?{$explosive}:{fine}}", fussy) == "fine"


def test_nesting_is_bounded():
    with pytest.raises(ValueTrouble, match="nested more than"):
        expand("${b:{" * 200 + "x" + "}}" * 200, value)


def test_growth_is_bounded():
    with pytest.raises(ValueTrouble, match="longer than"):
        expand("$big" * 5, lambda _name: "x" * (MAX_LENGTH // 4))


def test_names_in():
    assert names_in("$a ${b} $(c) $$d ${e?{$f}:{x}} ${{$g} == {1}}") == {"a", "b", "c", "e", "f", "g"}


@given(st.text(alphabet="${}()?:=<>a b", max_size=40))
def test_only_the_declared_error(text):
    try:
        expand(text, value)
    except ValueTrouble:
        return


@given(st.text(alphabet="abc ${}?:", max_size=40))
def test_doubled_dollar_signs_are_text(text):
    assert expand(text.replace("$", "$$"), value) == text
