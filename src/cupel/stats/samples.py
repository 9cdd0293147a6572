"""What a sample may be: finite, one-dimensional, long enough.

Knows shapes and finiteness; refuses to know what the numbers mean. Every statistic passes its
arguments through here, so a NaN is an error with a name and never a p-value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cupel.errors import ConfigError, DataError

FloatArray = NDArray[np.float64]
Values = Sequence[float] | FloatArray


def vector(values: ArrayLike, *, where: str, at_least: int = 1) -> FloatArray:
    """Return the values as a one-dimensional float array.

    Raises:
        DataError: not one-dimensional, too short, not numeric, or not finite (names the index).
    """
    return _array(values, where=where, dimensions=1, at_least=at_least)


def matrix(values: ArrayLike, *, where: str, at_least: int = 1) -> FloatArray:
    """Return the values as a two-dimensional float array with at least so many columns.

    Raises:
        DataError: not two-dimensional, too narrow, not numeric, or not finite.
    """
    return _array(values, where=where, dimensions=2, at_least=at_least)


def _array(values: ArrayLike, *, where: str, dimensions: int, at_least: int) -> FloatArray:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: the values are not all numbers; drop or impute missing ones"
        ) from None
    if array.ndim != dimensions:
        raise DataError(f"{where}: expected {dimensions} dimension(s), got shape {array.shape}")
    if array.shape[-1] < at_least:
        raise DataError(f"{where}: needs at least {at_least} value(s), got {array.shape[-1]}")
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise DataError(
            f"{where}: value at index {', '.join(map(str, index))} is {array[index]}; "
            "only finite numbers are allowed"
        )
    return array


def fraction(value: float, *, where: str, name: str) -> float:
    """Return a number strictly between 0 and 1.

    Raises:
        ConfigError: it is not.
    """
    if not 0.0 < value < 1.0:
        raise ConfigError(f"{where}: {name} = {value} must lie strictly between 0 and 1")
    return float(value)


def counts(successes: int, total: int, *, where: str) -> tuple[int, int]:
    """Return a success count and its total, checked.

    Raises:
        DataError: not integers, total below 1, or successes outside [0, total].
    """
    if int(successes) != successes or int(total) != total:
        raise DataError(f"{where}: counts must be integers, got {successes} of {total}")
    if total < 1 or not 0 <= successes <= total:
        raise DataError(
            f"{where}: {successes} of {total} is no count; need 0 <= successes <= total, total >= 1"
        )
    return int(successes), int(total)


def positive(value: int, *, where: str, name: str, at_least: int = 1) -> int:
    """Return an integer of at least `at_least`.

    Raises:
        ConfigError: it is not.
    """
    if int(value) != value or value < at_least:
        raise ConfigError(f"{where}: {name} = {value} must be an integer >= {at_least}")
    return int(value)
