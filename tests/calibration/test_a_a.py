"""Campaigns of two equal arms, planned, trained and judged for real: how often is one found better?

The arms differ in `replicate` alone, which draws other samples for the same seed. Everything
between the study and its verdict is the product's own: plan, executor, recorder, store, judge.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.analysis import judge
from cupel.lab import (
    Condition,
    Decision,
    Endpoint,
    StudyConfig,
    execute_study,
    load_recipe,
    plan_study,
    write_plan,
)
from cupel.stats.permutation import attainable_size

SEEDS = 8
Z = 3.29
SIZES = (0.01, 0.05, 0.10)
SETTINGS = {
    "backend": "toy",
    "max_steps": 6,
    "batch_size": 4,
    "group_size": 4,
    "save_every": 0,
    "evaluation": {"problems": 1, "samples": 1, "every": 1000},
}
EQUAL_ARMS = ({"replicate": 1}, {"replicate": 2})
UNEQUAL_ARMS = (
    {"replicate": 1, "lr": 30.0, "batch_size": 8, "group_size": 8},
    {"replicate": 2, "lr": 100.0, "batch_size": 8, "group_size": 8},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What one campaign concluded."""

    p: float
    verdict: str
    delta: float


def run_campaign(number: int, root: Path, arms: Sequence[dict[str, Any]]) -> Campaign:
    """Plan, run and judge campaign `number`, on seeds that no other campaign uses."""
    study = StudyConfig(
        name="a-a",
        seeds=list(range(SEEDS * number, SEEDS * (number + 1))),
        config=SETTINGS,
        conditions=[
            Condition(label=label, config=config)
            for label, config in zip(("one", "other"), arms, strict=True)
        ],
        endpoint=Endpoint(metric="correct_rate", over="all"),
        decision=Decision(resamples=100),
    )
    folder = root / str(number)
    write_plan(plan_study(study, load_recipe(study.recipe)), folder)
    assert execute_study(folder, executor="inline", fsync=False).is_complete
    found = judge(folder)
    shutil.rmtree(folder)
    assert found.significance is not None
    assert found.significance["mode"] == "confirmatory"
    block = found.significance["metrics"]["correct_rate"]
    assert block["n_seeds"] == SEEDS
    assert block["p_method"] == "exact_sign_flip"
    return Campaign(p=block["p"], verdict=str(found.verdict), delta=block["delta"])


def assert_size_is_held(campaigns: Sequence[Campaign]) -> None:
    """Assert that no size is exceeded, beyond what the number of campaigns lets one see."""
    p_R = np.array([campaign.p for campaign in campaigns])
    for alpha in SIZES:
        rate = float((p_R < alpha).mean())
        assert rate <= alpha + band(alpha, len(p_R)), (alpha, rate, np.sort(p_R)[:20])
    decided = {"improvement", "degradation"}
    for campaign in campaigns:
        assert (campaign.verdict in decided) == (campaign.p < 0.05), campaign
    assert len({campaign.delta for campaign in campaigns}) > len(campaigns) / 4


def band(alpha: float, replicates: int) -> float:
    """Width of the one-sided band in which a rate of alpha falls in 999 of 1,000 experiments."""
    return Z * float(np.sqrt(alpha * (1 - alpha) / replicates))


def test_equal_arms_are_told_apart_no_more_often_than_stated(tmp_path: Path) -> None:
    assert_size_is_held([run_campaign(n, tmp_path, EQUAL_ARMS) for n in range(40)])


def test_a_real_difference_is_found(tmp_path: Path) -> None:
    """The same campaign sees a learning rate of 0.3 times: it is not blind to everything."""
    found = [run_campaign(n, tmp_path, UNEQUAL_ARMS) for n in range(10)]
    verdicts = Counter(campaign.verdict for campaign in found)
    assert verdicts["improvement"] >= 7, verdicts
    assert verdicts["degradation"] == 0


@pytest.mark.slow
def test_five_hundred_campaigns_of_equal_arms(tmp_path: Path) -> None:
    campaigns = 500
    one = partial(run_campaign, root=tmp_path, arms=EQUAL_ARMS)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(one, range(campaigns), chunksize=10)
    p_R = np.array([campaign.p for campaign in found])
    counts, _ = np.histogram(p_R, bins=np.linspace(0, 1, 11))
    rejected = {alpha: int((p_R < alpha).sum()) for alpha in SIZES}
    print(f"rejections of {campaigns}: {rejected}; p histogram by tenths: {counts.tolist()}")
    assert_size_is_held(found)
    for alpha in (0.05, 0.10):
        least = attainable_size(SEEDS, alpha) - band(alpha, campaigns)
        assert (p_R < alpha).mean() >= least, "a test that never rejects has no size to hold"
    signs = Counter(campaign.verdict for campaign in found if campaign.p < 0.10)
    assert {"improvement", "degradation"} <= set(signs)
