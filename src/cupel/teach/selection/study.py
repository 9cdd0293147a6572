"""Phase 5 as a study: the same number of moments, chosen in four ways, trained on several seeds.

Pure: words in, the data of a study file out. Knows the conditions, the contrasts declared before
any run, and the documented training settings. Refuses to plan, run or judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from cupel.config import merge
from cupel.errors import ConfigError
from cupel.lab.study import DEFAULT_SEEDS
from cupel.teach.selection.ranking import METHODS, Method

BASE = "BASE"
"""The untrained model."""

ORDER: tuple[Method, ...] = ("random", "entropy", "predictor", "oracle")
"""The order the documents expect, from the least to the most gain; tested, never assumed."""

LORA: Mapping[str, Any] = {
    "epochs": 3,
    "batch_size": 4,
    "learning_rate": 2e-4,
    "lora_rank": 8,
    "lora_alpha": 16,
}
"""The documented training of this experiment, for a large model."""

TINY: Mapping[str, Any] = {"epochs": 3, "batch_size": 4}
"""The same for a tiny model, whose rate and full training are its own defaults."""

OUTCOMES = (
    "success_rate",
    "success_probability",
    "panel_success_rate",
    "panel_success_probability",
    "retention_rate",
)
"""What every method is compared on; the first one decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSetup:
    """What a selection study is made from.

    Attributes:
        labels, predictor: paths, as the runs will read them; the predictor only where it is used.
        budgets: one, or several for a sweep of K; the largest decides.
        evaluation, student, sft: settings of recipe teach.finetune, laid over its defaults.
    """

    labels: str
    predictor: str | None = None
    methods: Sequence[Method] = METHODS
    budgets: Sequence[int] = (500,)
    seeds: Sequence[int] = DEFAULT_SEEDS
    format: str = "demo"
    base: bool = True
    name: str = "teach_selection"
    student: Mapping[str, Any] = field(default_factory=dict)
    sft: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)


def selection_study(setup: SelectionSetup) -> dict[str, Any]:
    """Return the data of a selection study.

    The primary contrast is predictor against random at the largest budget; the neighbours in the
    expected order are secondary, corrected together.

    Raises:
        ConfigError: no method or budget, one twice, or a predictor that is asked for and missing.
    """
    _check(setup)
    trained = [
        {"label": label_of(method, k, setup.budgets), "config": _condition(setup, method, k)}
        for k in setup.budgets
        for method in setup.methods
    ]
    base: list[dict[str, Any]] = [
        {"label": BASE, "config": {"run_id": BASE, "selection": {"rule": "none"}}}
    ]
    return {
        "name": setup.name,
        "question": "At equal budget, does a model trained on the moments that a predictor "
        "chooses solve more tasks than one trained on random moments?",
        "recipe": "teach.finetune",
        "seeds": list(setup.seeds),
        "config": _shared(setup),
        "conditions": (base if setup.base else []) + trained,
        "endpoint": {"metric": f"eval/{OUTCOMES[0]}", "over": "last"},
        "decision": _decision(setup),
    }


def label_of(method: Method, budget: int, budgets: Sequence[int]) -> str:
    """Return a condition's label; the budget stands in it only when there are several.

    >>> label_of("oracle", 500, [500]), label_of("oracle", 50, [50, 500])
    ('ORACLE', 'ORACLE_K50')
    """
    return method.upper() if len(budgets) == 1 else f"{method.upper()}_K{budget}"


def run_id_of(method: Method, budget: int, budgets: Sequence[int]) -> str:
    """Return the documented run id, selection_<method>, with the budget when there are several."""
    return f"selection_{method}" + (f"_K{budget}" if len(budgets) > 1 else "")


def in_order(methods: Sequence[Method]) -> list[Method]:
    """Return the methods that take part, in the expected order."""
    return [method for method in ORDER if method in methods]


def _check(setup: SelectionSetup) -> None:
    for what, values in (("methods", setup.methods), ("budgets", setup.budgets)):
        if not values or len(set(values)) != len(values):
            raise ConfigError(f"selection study: {what} {list(values)}; give each once, at least 1")
    unknown = [method for method in setup.methods if method not in METHODS]
    if unknown:
        raise ConfigError(
            f"selection study: no method '{unknown[0]}'; allowed: {', '.join(METHODS)}"
        )
    if min(setup.budgets) < 1:
        raise ConfigError(f"selection study: budget {min(setup.budgets)}; a budget is at least 1")
    if "predictor" in setup.methods and setup.predictor is None:
        raise ConfigError(
            "selection study: method 'predictor' needs a trained predictor (--predictor-path); "
            "train one with cupel teach predict, or leave the method out"
        )


def _shared(setup: SelectionSetup) -> dict[str, Any]:
    backend = setup.student.get("backend", "tiny")
    shared: dict[str, Any] = {
        "labels": setup.labels,
        "format": setup.format,
        "sft": merge(TINY if backend == "tiny" else LORA, setup.sft),
    }
    if setup.student:
        shared["student"] = dict(setup.student)
    if setup.evaluation:
        shared["evaluation"] = dict(setup.evaluation)
    return shared


def _condition(setup: SelectionSetup, method: Method, budget: int) -> dict[str, Any]:
    selection: dict[str, Any] = {
        "rule": method,
        "budget": budget,
        "compared": [other for other in METHODS if other in setup.methods],
    }
    if setup.predictor is not None and "predictor" in setup.methods:
        selection["predictor"] = setup.predictor
    return {"run_id": run_id_of(method, budget, setup.budgets), "selection": selection}


def _decision(setup: SelectionSetup) -> dict[str, Any]:
    largest = max(setup.budgets)
    labels = [label_of(method, largest, setup.budgets) for method in in_order(setup.methods)]
    pairs = list(pairwise(labels))
    if setup.base:
        pairs.insert(0, (BASE, labels[0]))
    candidate = label_of("predictor", largest, setup.budgets)
    primary = (labels[0], candidate if candidate in labels[1:] else labels[-1])
    if len(labels) == 1:
        return {"baseline": BASE, "candidate": labels[0]} if setup.base else {}
    return {
        "baseline": primary[0],
        "candidate": primary[1],
        "secondary": [list(pair) for pair in pairs if pair != primary],
        "exploratory": [{"metric": f"eval/{name}", "over": "last"} for name in OUTCOMES[1:]],
    }
