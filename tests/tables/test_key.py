import pytest

from pyfix.tables.key import fold


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Example.COM", "example.com"),
        ("GRÜẞE@Ä.example", "grüße@ä.example"),
        ("\u212a", "\u212a"),
        ("\u0130X", "i\u0307x"),
        ("", ""),
    ],
)
def test_fold(text, expected):
    assert fold(text) == expected
