"""pass@k without bias: the chance that one of k answers is right, from n answers.

Knows counts by prompt; refuses k above the number of answers, for which nothing unbiased exists.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cupel.errors import DataError
from cupel.stats.samples import FloatArray, positive


def pass_at_k(right_Q: ArrayLike, answers_Q: ArrayLike, k: int) -> FloatArray:
    """Return 1 - C(n-c, k)/C(n, k) for every prompt, c right of n answers.

    >>> pass_at_k([0, 1, 4], [4, 4, 4], 2).tolist()
    [0.0, 0.5, 1.0]

    Raises:
        DataError: counts do not match, are negative, or k exceeds the answers of a prompt.
    Source: Chen et al. 2021 (arXiv:2107.03374), equation 1, as a product of k ratios.
    """
    k = positive(k, where="pass_at_k", name="k")
    right, answers = _counts(right_Q, "right"), _counts(answers_Q, "answers")
    if right.shape != answers.shape:
        raise DataError(f"pass_at_k: shapes {right.shape} and {answers.shape} do not match")
    if (right > answers).any():
        raise DataError("pass_at_k: a prompt has more right answers than answers")
    if len(answers) and int(answers.min()) < k:
        raise DataError(
            f"pass_at_k: k = {k}, but a prompt has only {int(answers.min())} answers; lower k"
        )
    j_K = np.arange(k)
    wrong_QK = np.maximum((answers - right)[:, None] - j_K, 0)
    ratio_QK = wrong_QK / (answers[:, None] - j_K)
    estimate_Q: FloatArray = 1.0 - np.prod(ratio_QK, axis=1)
    return estimate_Q


def _counts(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer) or (array < 0).any():
        raise DataError(f"pass_at_k: {name} must be a list of whole numbers >= 0")
    return array.astype(np.int64)
