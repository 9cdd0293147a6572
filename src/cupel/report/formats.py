"""Numbers as words: units, percent, signs and p-values, for people only.

Pure. Knows how a value of a declared unit is shown; refuses to change what is stored. Rates are
in [0, 1] everywhere and become percent here and nowhere else.
"""

from __future__ import annotations

import math

MISSING = "–"
"""What a cell shows when there is no value: never a zero, never an empty cell."""

THIN = "\u202f"
"""Narrow no-break space between a number and its unit."""


def value_text(value: float | None, unit: str, *, digits: int = 3) -> str:
    """Show a value in its unit: rates as percent, everything else to `digits` figures.

    >>> value_text(0.4312, "rate")
    '43.1\\u202f%'
    >>> value_text(None, "rate")
    '–'
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if unit == "rate":
        return f"{100 * value:.1f}{THIN}%".replace("-", "−")
    number = plain_number(value, digits=digits)
    return number if unit in {"", "count", "step"} else f"{number}{THIN}{unit}"


def tick_text(value: float, unit: str) -> str:
    """Show a tick: rates as percent with no more decimals than needed, others as bare numbers.

    >>> tick_text(0.2, "rate"), tick_text(0.015, "s")
    ('20\\u202f%', '0.015')
    """
    if unit == "rate":
        return f"{100 * value:.6g}{THIN}%".replace("-", "−")
    return plain_number(value, digits=6)


def difference_text(value: float | None, unit: str, *, with_unit: bool = True) -> str:
    """Show a signed difference; differences of rates are in percentage points (pp).

    >>> difference_text(0.043, "rate")
    '+4.3\\u202fpp'
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if unit == "rate":
        number, shown_unit = f"{100 * value:+.1f}", "pp"
        if float(number) == 0.0 and value != 0.0:
            number = f"{100 * value:+.2g}"
    else:
        number, shown_unit = f"{value:+.3g}", unit
    number = number.replace("-", "−")
    return f"{number}{THIN}{shown_unit}" if with_unit and shown_unit else number


def plain_number(value: float, *, digits: int = 3) -> str:
    """Show a number to `digits` significant figures, without exponents between 1e-4 and 1e7.

    >>> plain_number(1234.5)
    '1,234'
    """
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    if size >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:.{decimals}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def p_text(p: float | None) -> str:
    """Show a p-value without its leading zero: three decimals, or two significant figures.

    >>> p_text(0.0781), p_text(0.0078125), p_text(0.5)
    ('.078', '.0078', '.50')
    """
    if p is None or not math.isfinite(p):
        return MISSING
    if p < 0.0001:
        return f"{p:.1e}".replace("-", "−")
    if p >= 0.9995:
        return "1"
    decimals = max(3, 1 - math.floor(math.log10(p)))
    text = f"{p:.{decimals}f}".removeprefix("0")
    return text[:-1] if len(text) == 4 and text.endswith("0") else text


def interval_text(low: float | None, high: float | None, unit: str) -> str:
    """Show an interval of a difference as `low to high`, in the unit of `difference_text`."""
    if low is None or high is None:
        return MISSING
    return f"{difference_text(low, unit, with_unit=False)} to {difference_text(high, unit)}"


def margin_text(margin: float, unit: str) -> str:
    """Show a symmetric margin of a difference, e.g. ±2.0 pp."""
    return difference_text(abs(margin), unit).replace("+", "±")


def duration_text(seconds: float | None) -> str:
    """Show a duration in the largest fitting unit.

    >>> duration_text(95)
    '1 min 35 s'
    """
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{plain_number(seconds)}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def count_text(count: int, noun: str, plural: str | None = None) -> str:
    """Show a count with its noun: `1 run`, `8 runs`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
