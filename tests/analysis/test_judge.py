"""Judging a study folder: what is written, how it may be read, and when it is refused."""

from __future__ import annotations

import hashlib
import json

import pytest

from cupel.analysis import compare_runs, comparison_markdown, judge
from cupel.analysis.judge import reading_mode
from cupel.config import canonical_json
from cupel.errors import DataError
from cupel.lab.store import read_study

SEEDS = range(1, 9)
LOW = dict.fromkeys(SEEDS, 0.2)
HIGH = dict.fromkeys(SEEDS, 0.7)
NAMES = [
    f"{name}.{kind}" for name in ("comparison", "significance", "litmus") for kind in ("json", "md")
]


def strict(path) -> dict:
    def refuse(text: str) -> float:
        raise AssertionError(f"{path} holds {text}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_a_judged_study_has_its_six_files(study_at) -> None:
    folder = study_at({"grpo": LOW, "maxrl": HIGH})
    judgement = judge(folder)
    assert [path.name for path in judgement.files] == NAMES
    assert {path.name for path in (folder / "analysis").iterdir()} == set(NAMES)
    report = strict(folder / "analysis" / "significance.json")
    assert judgement.verdict == report["verdict"] == "improvement"
    assert judgement.sentence == report["sentence"]
    assert report["runs"][0]["folder"] == "runs/grpo_s1"
    assert len(report["provenance"]["inputs_sha256"]) == 3 * 16
    assert strict(folder / "analysis" / "litmus.json")["status"] == "INCONCLUSIVE"
    comparison = strict(folder / "analysis" / "comparison.json")
    assert comparison["baseline"]["total_generations"] == 8 * 80
    assert comparison["candidate"]["training_steps"] == 80
    arms = comparison["baseline"], comparison["candidate"]
    assert comparison["delta"]["correct_rate"] == pytest.approx(
        arms[1]["correct"] / 640 - arms[0]["correct"] / 640
    )


def test_judging_twice_writes_the_same_bytes(study_at) -> None:
    folder = study_at({"grpo": LOW, "maxrl": HIGH})
    first = [path.read_bytes() for path in judge(folder).files]
    assert [path.read_bytes() for path in judge(folder).files] == first


def test_secondary_contrasts_are_corrected_together(study_at) -> None:
    cells = {"a": LOW, "b": HIGH, "c": HIGH, "d": dict.fromkeys(SEEDS, 0.21)}
    folder = study_at(
        cells, baseline="a", candidate="b", secondary=[("a", "c"), ("a", "d"), ("b", "c")]
    )
    judge(folder)
    metrics = strict(folder / "analysis" / "significance.json")["metrics"]
    assert list(metrics) == [
        "correct_rate",
        "correct_rate: c vs a",
        "correct_rate: d vs a",
        "correct_rate: c vs b",
        "mean_reward",
    ]
    best = metrics["correct_rate: c vs a"]
    assert best["multiplicity"] == {
        "family": "secondary",
        "method": "holm",
        "p_adjusted": 3 * best["p"],
        "level": 0.05,
        "p_holm": 3 * best["p"],
    }
    assert best["verdict"] == "improvement"
    assert metrics["correct_rate"]["multiplicity"]["p_holm"] is None
    assert metrics["mean_reward"]["multiplicity"]["family"] == "exploratory"


def test_a_family_too_large_for_its_seeds_claims_nothing(study_at) -> None:
    six = range(1, 7)
    low, high = dict.fromkeys(six, 0.2), dict.fromkeys(six, 0.7)
    cells = {"a": low, "b": high, "c": high}
    folder = study_at(cells, baseline="a", candidate="b", secondary=[("a", "b"), ("a", "c")])
    judge(folder)
    block = strict(folder / "analysis" / "significance.json")["metrics"]["correct_rate: c vs a"]
    assert block["p"] < 0.05 < block["multiplicity"]["p_holm"]
    assert (block["verdict"], block["reasons"]) == ("inconclusive", ["multiplicity"])


def test_a_held_out_endpoint_decides_and_training_outcomes_are_described(study_at) -> None:
    low = {s: {"rate": 0.3, "evaluations": {0: 0.1, 10: 0.2}} for s in SEEDS}
    high = {s: {"rate": 0.3, "evaluations": {0: 0.1, 10: 0.5 + s / 100}} for s in SEEDS}
    folder = study_at({"a": low, "b": high}, endpoint={"metric": "eval/accuracy", "over": "last"})
    judge(folder)
    report = strict(folder / "analysis" / "significance.json")
    assert list(report["metrics"]) == ["eval/accuracy", "correct_rate", "mean_reward"]
    assert report["verdict"] == "improvement"
    assert report["metrics"]["eval/accuracy"]["delta"] == pytest.approx(0.345)
    assert report["metrics"]["eval/accuracy"]["legacy"] is None
    assert report["metrics"]["correct_rate"]["over"] == "last 20%"


def test_no_finished_run_is_no_verdict(study_at) -> None:
    folder = study_at({"a": dict.fromkeys(SEEDS), "b": dict.fromkeys(SEEDS)})
    with pytest.raises(DataError, match=r"no finished run to judge \(states: missing\)"):
        judge(folder)
    assert not (folder / "analysis").exists()
    with pytest.raises(DataError, match="no such folder"):
        judge(folder / "nowhere")


def test_an_arm_that_never_ran_cannot_be_judged(study_at) -> None:
    report = judge(study_at({"a": LOW, "b": dict.fromkeys(SEEDS)}))
    assert report.verdict == "inconclusive"
    assert report.significance is not None
    assert report.significance["reasons"] == ["no_pairs"]
    assert "cannot be compared" in report.sentence
    assert len(report.comparison["runs"]) == 16


def test_one_condition_is_compared_with_nothing(study_at) -> None:
    judgement = judge(study_at({"a": LOW}))
    assert (judgement.verdict, judgement.significance) == (None, None)
    assert [path.name for path in judgement.files] == NAMES[:2]
    assert judgement.comparison["conditions"][0]["endpoint"]["n"] == 8


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({}, "confirmatory"),
        ({"lock": False}, "exploratory"),
        ({"started_at": "2001-01-01T00:00:00+00:00"}, "exploratory"),
    ],
)
def test_only_a_lock_older_than_its_runs_confirms(study_at, settings, mode: str) -> None:
    assert reading_mode(read_study(study_at({"a": LOW, "b": HIGH}, **settings))) == mode


def test_a_changed_or_amended_plan_is_exploratory(study_at) -> None:
    folder = study_at({"a": LOW, "b": HIGH})
    path = folder / "plan.lock"
    intact = json.loads(path.read_text())
    path.write_text(json.dumps(intact | {"amendments": [{"outcomes_seen": True}]}))
    assert reading_mode(read_study(folder)) == "exploratory"
    changed = {**intact["lock"], "seeds": [1, 2]}
    path.write_text(json.dumps(intact | {"lock": changed}))
    assert reading_mode(read_study(folder)) == "exploratory"


def test_a_lock_older_than_a_setting_declares_its_default(study_at) -> None:
    folder = study_at({"a": LOW, "b": HIGH})
    path = folder / "plan.lock"
    lock = json.loads(path.read_text())
    older = {key: value for key, value in lock["lock"]["decision"].items() if key != "looks"}
    for decision, mode in ((older, "confirmatory"), ({**older, "alpha": 0.01}, "exploratory")):
        declared = {**lock["lock"], "decision": decision}
        sha256 = hashlib.sha256(canonical_json(declared).encode()).hexdigest()
        path.write_text(json.dumps({**lock, "lock": declared, "sha256": sha256}))
        assert reading_mode(read_study(folder)) == mode


def test_comparison_shows_every_failed_run(arm, run_at) -> None:
    low, high = arm("a", {1: 0.2, 2: 0.3}), arm("b", {1: 0.5})
    failure = {"kind": "algorithmic", "message": "loss is nan"}
    folder = high[0].with_name("b_s2")
    run_at(folder, seed=2, condition="b", status="failed", failure=failure, steps=3)
    report = compare_runs(low, [*high, folder])
    assert report["conditions"][1]["failed"] == 1
    assert [run["status"] for run in report["runs"]] == ["done", "done", "done", "failed"]
    text = comparison_markdown(report)
    assert "failed: loss is nan" in text
    assert "| b | 1 of 2, 1 failed |" in text
