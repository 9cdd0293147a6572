"""Numbers as people read them."""

from __future__ import annotations

import doctest

import pytest

from cupel.report import formats


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(formats).failed == 0


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.043, "rate", "+4.3 pp"),
        (-0.0004, "rate", "−0.04 pp"),
        (0.0, "rate", "+0.0 pp"),
        (-1.25, "nats", "−1.25 nats"),
        (None, "rate", "–"),
    ],
)
def test_differences(value: float | None, unit: str, shown: str) -> None:
    assert formats.difference_text(value, unit).replace("\u202f", " ") == shown


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.125, ".125"), (0.0078125, ".0078"), (0.5, ".50"), (1.0, "1"), (3e-7, "3.0e−07")],
)
def test_p_values(p: float, shown: str) -> None:
    assert formats.p_text(p) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0.4 s"), (95, "1 min 35 s"), (7260, "2 h 1 min")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert formats.duration_text(seconds).replace("\u202f", " ") == shown
