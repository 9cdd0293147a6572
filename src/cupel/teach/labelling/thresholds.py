"""How U and L_local are distributed over the training tasks, and what cuts that suggests.

Pure. Knows quantiles. Refuses to choose: it suggests, and says how many moments lie on a cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cupel.errors import DataError
from cupel.teach.labelling.labels import LabelledMoment


def quantiles_of(labels: Iterable[LabelledMoment], *, where: str) -> dict[str, Any]:
    """Return quantiles.json: both distributions, and the median and upper-quartile cuts.

    Only moments of training tasks with both labels count, as in fitting.

    Raises:
        DataError: there are none.
    """
    pairs = [
        (row.U, row.leverage.L_local.value)
        for row in labels
        if row.moment.split == "train" and row.U is not None and row.leverage is not None
    ]
    if not pairs:
        raise DataError(
            f"{where}: no moment of a training task has both U and L_local; label uncertainty "
            "and leverage first"
        )
    u, leverage = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = {"U": _described(u), "L_local": _described(leverage)}
    suggested = {
        name: {axis: found[axis][key] for axis in found}
        for name, key in (("median", "median"), ("p75", "p75"))
    }
    high = {
        name: {
            "U": float(np.mean(np.array(u) > cut["U"])),
            "L_local": float(np.mean(np.array(leverage) > cut["L_local"])),
        }
        for name, cut in suggested.items()
    }
    return {**found, "suggested_thresholds": suggested, "share_above": high, "fitted_on": "train"}


def _described(values: Sequence[float]) -> dict[str, float]:
    data = np.array(values)
    return {
        "n": len(values),
        "min": float(data.min()),
        "p10": float(np.quantile(data, 0.10)),
        "p25": float(np.quantile(data, 0.25)),
        "median": float(np.quantile(data, 0.50)),
        "p75": float(np.quantile(data, 0.75)),
        "p90": float(np.quantile(data, 0.90)),
        "max": float(data.max()),
        "mean": float(data.mean()),
        "std": float(data.std()),
    }
