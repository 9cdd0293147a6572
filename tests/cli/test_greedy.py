"""One flag takes many words, as a shell expands a glob."""

from __future__ import annotations

import pytest

from cupel.cli.greedy import repeat_flags


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--baseline a b --candidate c", "--baseline a --baseline b --candidate c"),
        ("--baseline a --baseline b", "--baseline a --baseline b"),
        ("--baseline=a b --alpha 0.1 x", "--baseline=a --baseline b --alpha 0.1 x"),
        ("folder --alpha 0.1", "folder --alpha 0.1"),
        ("--baseline a b -- c d", "--baseline a --baseline b -- c d"),
        ("--baseline", "--baseline"),
    ],
)
def test_a_greedy_flag_is_repeated_before_each_value(line: str, expected: str) -> None:
    assert repeat_flags(line.split(), {"--baseline", "--candidate"}) == expected.split()
