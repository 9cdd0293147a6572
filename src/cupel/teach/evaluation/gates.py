"""The pass criteria of the evaluation, each with its figure, interval and n.

Pure. Knows three criteria: better than BASE, best where it was trained, little forgotten. Refuses
to say yes without a figure, and tells a figure on the right side from one that is established.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cupel.lab.metrics import Scalar
from cupel.teach.evaluation.tables import BASE, Evidence, Row, transfer_diagonal
from cupel.teach.evaluation.transfer import Diagonal

CANDIDATE = "Q1_highU_highL_hint"
"""The model that the success and retention gates are about, where it was trained."""
RETENTION_LIMIT = 0.10
"""A success rate on the retention tasks may fall by less than this."""


def candidate_of(models: Sequence[str], wanted: str | None = None) -> str | None:
    """Return the model the headline gates are about: the wanted one, Q1 with hints, or the first.

    >>> candidate_of(["BASE", "B1_uniform", "Q1_highU_highL_hint"])
    'Q1_highU_highL_hint'
    """
    trained = [name for name in models if name != BASE]
    for name in (wanted, CANDIDATE):
        if name is not None and name in trained:
            return name
    return trained[0] if trained else None


def gates(
    evidence: Evidence,
    *,
    overall: Sequence[Row],
    retention: Sequence[Row],
    candidate: str | None = None,
) -> dict[str, Any]:
    """Return gates.json: every gate of every model, and whether the headline ones pass.

    `passed` reads the figure alone, as the documents state the criteria; `established` asks that
    the whole 95 % interval lies on the right side; None where there is no figure or interval.
    """
    headline = candidate_of(evidence.models, candidate)
    found = [
        _gate(
            "success",
            "success on test tasks above BASE",
            row["model"],
            (row["delta_success"], row["delta_lo"], row["delta_hi"]),
            row["delta_n"],
            above=0.0,
            headline=row["model"] == headline,
        )
        for row in overall
        if row["model"] != BASE
    ]
    found += [
        _diagonal("transfer_diagonal", transfer_diagonal(evidence), headline=True),
        _diagonal(
            "transfer_diagonal_probability",
            transfer_diagonal(evidence, of_probability=True),
            headline=False,
        ),
    ]
    found += [
        _gate(
            "retention",
            f"retention falls by less than {RETENTION_LIMIT:g}",
            row["model"],
            (row["retention_drop"], row["lo"], row["hi"]),
            row["n"],
            below=RETENTION_LIMIT,
            headline=row["model"] == headline,
        )
        for row in retention
        if row["model"] != BASE
    ]
    led = [gate["passed"] for gate in found if gate["headline"]]
    return {"candidate": headline, "passed": bool(led) and all(led), "gates": found}


def _diagonal(name: str, found: Diagonal, *, headline: bool) -> dict[str, Any]:
    gate = _gate(
        name,
        "success in the quadrant trained on above that in others, pooled over the matrix",
        None,
        (found.delta, found.lo, found.hi),
        found.n,
        above=0.0,
        headline=headline,
    )
    return gate | {
        "p": found.p,
        "n_tasks": found.clusters,
        "diagonal": found.diagonal,
        "off_diagonal": found.off_diagonal,
        "quadrants": found.columns,
        "balanced": found.balanced,
    }


def _gate(
    name: str,
    criterion: str,
    model: Scalar,
    figures: tuple[Scalar, Scalar, Scalar],
    n: Scalar,
    *,
    headline: bool,
    above: float | None = None,
    below: float | None = None,
) -> dict[str, Any]:
    figure, lo, hi = figures
    passed = established = None
    if isinstance(figure, float):
        passed = figure > above if above is not None else below is not None and figure < below
    if isinstance(lo, float) and isinstance(hi, float):
        established = lo > above if above is not None else below is not None and hi < below
    return {
        "gate": name,
        "criterion": criterion,
        "model": model,
        "headline": headline,
        "figure": figure,
        "lo": lo,
        "hi": hi,
        "n": n,
        "threshold": above if above is not None else below,
        "passed": passed,
        "established": established,
    }
