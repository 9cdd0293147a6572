"""Which K moments to teach: random, entropy, predictor, oracle; one ranking rule for all four.

Knows labels and scores. Refuses to fall back: a method whose input is missing stops and names it,
because a silent substitute makes every method the same and nobody notices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cupel.errors import DataError
from cupel.lab.randomness import Randomness, counter_of
from cupel.teach.labelling.labels import LabelledMoment

Method = Literal["random", "entropy", "predictor", "oracle"]
METHODS: tuple[Method, ...] = ("random", "entropy", "predictor", "oracle")
"""random: drawn by the seed; entropy: the largest U; predictor: the largest predicted ELP; oracle:
the largest measured ELP, read on rollouts that chose nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The chosen moments of one method.

    Attributes:
        indices: into the labels, best first.
        scores: what each of them was ranked by, in the same order; the random method's draws.
        tied_at_cut: moments whose score is that of the last one chosen, chosen or not; beyond 1
            the seed decided among them.
        capped: moments passed over because their task had its share.
    """

    method: Method
    seed: int
    indices: tuple[int, ...]
    scores: tuple[float, ...]
    tied_at_cut: int
    capped: int


def rank(
    labels: Sequence[LabelledMoment],
    method: Method,
    *,
    predictions: Mapping[str, float] | None = None,
    seed: int,
) -> list[int]:
    """Return all indices, best first; ties in an order drawn by `seed`, whatever the row order.

    Args:
        predictions: predicted ELP by moment id, for `predictor`; see `predictor.predicted_elp`.

    Raises:
        DataError: no labels, an id twice, or the method's input is missing for any moment.
    """
    scores_N = scores(labels, method, predictions=predictions, seed=seed)
    return _ordered(labels, scores_N, seed)


def select(
    labels: Sequence[LabelledMoment],
    method: Method,
    budget: int,
    *,
    predictions: Mapping[str, float] | None = None,
    seed: int,
    per_task_cap: int | None = None,
) -> Selection:
    """Choose the `budget` best moments, at most `per_task_cap` of one task.

    Raises:
        DataError: as `rank`; or fewer moments than the budget, before or after the cap.
    """
    if budget < 1 or budget > len(labels):
        raise DataError(
            f"selection {method}: budget {budget}, but the pool holds {len(labels)} moments; "
            f"use a budget from 1 to {len(labels)}, or label more"
        )
    scores_N = scores(labels, method, predictions=predictions, seed=seed)
    chosen: list[int] = []
    taken: Counter[str] = Counter()
    capped = 0
    for index in _ordered(labels, scores_N, seed):
        task = labels[index].moment.task_id
        if per_task_cap is not None and taken[task] >= per_task_cap:
            capped += 1
            continue
        taken[task] += 1
        chosen.append(index)
        if len(chosen) == budget:
            break
    if len(chosen) < budget:
        raise DataError(
            f"selection {method}: budget {budget}, but {len({m.moment.task_id for m in labels})} "
            f"tasks with at most {per_task_cap} moments each give {len(chosen)}; lower the "
            "budget or raise per_task_cap"
        )
    return Selection(
        method=method,
        seed=seed,
        indices=tuple(chosen),
        scores=tuple(float(scores_N[index]) for index in chosen),
        tied_at_cut=int(np.count_nonzero(scores_N == scores_N[chosen[-1]])),
        capped=capped,
    )


def scores(
    labels: Sequence[LabelledMoment],
    method: Method,
    *,
    predictions: Mapping[str, float] | None = None,
    seed: int,
) -> NDArray[np.float64]:
    """Return what a method ranks by, larger first [N].

    Raises:
        DataError: as `rank`.
    """
    if not labels:
        raise DataError(f"selection {method}: no labelled moments to select from")
    twice = [name for name, count in Counter(label.id for label in labels).items() if count > 1]
    if twice:
        raise DataError(f"selection {method}: moment {twice[0]} appears twice; merge the labels")
    if method == "random":
        keys = [(counter_of(label.id),) for label in labels]
        return Randomness(seed).uniforms("selection/random", keys, 1)[:, 0]
    if method == "predictor" and predictions is None:
        raise DataError(
            "selection predictor: no predictions; train a predictor with cupel teach predict and "
            "give its path"
        )
    values = [value_of(label, method, predictions) for label in labels]
    missing = [label.id for label, value in zip(labels, values, strict=True) if value is None]
    if missing:
        raise DataError(
            f"selection {method}: {len(missing)} of {len(labels)} moments have no "
            f"{_INPUT[method]}, the first {missing[0]}; {_REMEDY[method]}"
        )
    found_N = np.array(values, dtype=np.float64)
    if not np.isfinite(found_N).all():
        bad = labels[int(np.flatnonzero(~np.isfinite(found_N))[0])].id
        raise DataError(f"selection {method}: the {_INPUT[method]} of moment {bad} is not finite")
    return found_N


def value_of(
    label: LabelledMoment, method: Method, predictions: Mapping[str, float] | None = None
) -> float | None:
    """Return what `method` knows of one moment; None where that was not measured."""
    match method:
        case "random":
            return 0.0
        case "entropy":
            return label.U
        case "predictor":
            return None if predictions is None else predictions.get(label.id)
        case "oracle":
            return oracle_value(label)


def oracle_value(label: LabelledMoment) -> float | None:
    """Return the payoff an oracle ranks by: exact where values are exact, else the held-out half.

    The largest net gain over formats is free of optimism only where nothing was sampled;
    otherwise the gain is read on the rollouts that did not choose the format.
    """
    test = label.patch_test
    if test is None:
        return None
    exact = test.p_placebo.n is None and all(each.n is None for each in test.p.values())
    return test.ELP_net if exact and test.p else test.oracle_half


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The moments that every compared method can rank, and why others were left out."""

    labels: tuple[LabelledMoment, ...]
    excluded: Mapping[str, int]


def common_pool(
    labels: Sequence[LabelledMoment],
    methods: Sequence[Method],
    *,
    predictions: Mapping[str, float] | None = None,
) -> Pool:
    """Keep the moments of training tasks with a valid hint and the input of every method.

    All methods choose from the same moments, or the comparison is of pools.

    Raises:
        DataError: nothing is left, or a method's input is missing everywhere; says which.
    """
    if not labels:
        raise DataError("selection: no labelled moments to select from")
    reasons = Counter(_why_not(label, methods, predictions) for label in labels)
    for method in methods:
        if all(value_of(label, method, predictions) is None for label in labels):
            raise DataError(
                f"selection {method}: none of {len(labels)} moments has a {_INPUT[method]}; "
                f"{_REMEDY[method]}"
            )
    kept = tuple(label for label in labels if not _why_not(label, methods, predictions))
    excluded = {reason: count for reason, count in sorted(reasons.items()) if reason}
    if not kept:
        told = ", ".join(f"{count} {reason}" for reason, count in excluded.items())
        raise DataError(f"selection: no moment of {len(labels)} can be selected: {told}")
    return Pool(labels=kept, excluded=excluded)


_INPUT: Mapping[str, str] = {
    "entropy": "uncertainty U",
    "predictor": "predicted ELP",
    "oracle": "patch test with a held-out half (patch_test.oracle_half)",
}
_REMEDY: Mapping[str, str] = {
    "entropy": "label them with cupel teach uncertainty, or leave the method out",
    "predictor": "predict them with the predictor's own features, or leave the method out",
    "oracle": "run the patch test with at least 2 rollouts a condition, or leave the method out",
}


def _why_not(
    label: LabelledMoment, methods: Sequence[Method], predictions: Mapping[str, float] | None
) -> str:
    if label.moment.split != "train":
        return f"of split {label.moment.split}"
    if label.hint is None or not label.hint.valid:
        return "without a valid hint"
    for method in methods:
        if value_of(label, method, predictions) is None:
            return f"without {_INPUT[method]}"
    return ""


def _ordered(
    labels: Sequence[LabelledMoment], scores_N: NDArray[np.float64], seed: int
) -> list[int]:
    keys = [(counter_of(label.id),) for label in labels]
    ties_N = Randomness(seed).uniforms("selection/ties", keys, 1)[:, 0]
    return [int(index) for index in np.lexsort((ties_N, -scores_N))]
