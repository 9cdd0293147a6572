"""The verdict: the seeds decide, the pooled tests stand beside it, damage is an error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cupel.analysis import evaluate_significance, significance_markdown
from cupel.config import canonical_json
from cupel.errors import ConfigError, DataError
from cupel.lab.study import Endpoint
from cupel.stats.permutation import sign_flip

LOW = dict.fromkeys(range(1, 9), 0.2)
HIGH = {seed: 0.4 + 0.025 * (seed % 3) for seed in range(1, 9)}
ALL = Endpoint(over="all")


def test_eight_better_seeds_are_an_improvement(arm) -> None:
    report = evaluate_significance(arm("grpo", LOW), arm("maxrl", HIGH), endpoint=ALL)
    block = report["metrics"]["correct_rate"]
    assert report["verdict"] == "improvement"
    assert report["recommendation"] == "statistically_significant_improvement"
    assert report["recommendation_textpolicy"] == "significant_improvement"
    assert (block["p"], block["p_floor"], block["n_permutations"]) == (2 / 256, 2 / 256, 256)
    assert (block["scope"], block["unit"], block["n_seeds"]) == ("method", "seed", 8)
    expected = sign_flip([c - b for _, b, c in block["pairs"]]).interval
    assert block["ci95"] == [expected.low, expected.high]
    assert report["sentence"].startswith(
        "Over 8 training seeds, maxrl minus grpo = +22.8 pp in correct_rate ("
    )
    assert report["provenance"]["rng"] == "none"
    assert json.loads(canonical_json(report))["mode"] == "exploratory"


def test_swapping_arms_flips_sign_and_word(arm) -> None:
    low, high = arm("grpo", LOW), arm("maxrl", HIGH)
    forth = evaluate_significance(low, high, endpoint=ALL)
    back = evaluate_significance(high, low, endpoint=ALL)
    a, b = forth["metrics"]["correct_rate"], back["metrics"]["correct_rate"]
    assert b["delta"] == -a["delta"]
    assert b["ci95"] == pytest.approx([-a["ci95"][1], -a["ci95"][0]])
    assert (a["verdict"], b["verdict"]) == ("improvement", "degradation")
    assert back["recommendation_textpolicy"] == "significant_regression"
    assert b["legacy"]["fisher_p"] == pytest.approx(a["legacy"]["fisher_p"])


def test_lower_is_better_inverts_the_word(arm) -> None:
    endpoint = Endpoint(over="all", higher_is_better=False)
    report = evaluate_significance(arm("a", LOW), arm("b", HIGH), endpoint=endpoint)
    assert report["verdict"] == "degradation"
    assert report["metrics"]["correct_rate"]["prob_improvement"]["k"] == 0


def test_order_of_runs_changes_no_byte(arm) -> None:
    low, high = arm("grpo", LOW), arm("maxrl", HIGH)
    forth = evaluate_significance(low, high, endpoint=ALL, num_resamples=500)
    shuffled = evaluate_significance(
        low[::-1], high[3:] + high[:3], endpoint=ALL, num_resamples=500
    )
    for report in (forth, shuffled):
        report["runs"].sort(key=lambda run: run["folder"])
    assert canonical_json(shuffled) == canonical_json(forth)


def test_order_of_completions_changes_no_byte(arm) -> None:
    low, high = arm("grpo", LOW), arm("maxrl", HIGH)
    before = evaluate_significance(low, high, endpoint=ALL, num_resamples=500)
    path = high[0] / "emergence" / "generations.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    np.random.default_rng(0).shuffle(lines)
    path.write_text("".join(lines))
    after = evaluate_significance(low, high, endpoint=ALL, num_resamples=500)
    for report in (before, after):
        report["provenance"].pop("inputs_sha256")
    assert canonical_json(after) == canonical_json(before)


def test_duplicating_every_completion_changes_only_the_legacy_block(arm) -> None:
    low = arm("grpo", {seed: 0.3 + 0.05 * (seed % 2) for seed in range(1, 9)})
    high = arm("maxrl", {seed: 0.35 + 0.05 * (seed % 3) for seed in range(1, 9)})
    before = evaluate_significance(low, high, endpoint=ALL, num_resamples=500)
    for folder in (*low, *high):
        path = folder / "emergence" / "generations.jsonl"
        path.write_text(path.read_text() * 2)
    after = evaluate_significance(low, high, endpoint=ALL, num_resamples=500)
    pooled = ("legacy", "design_effect", "icc_prompt", "icc_seed", "disagreement")
    first, second = before["metrics"]["correct_rate"], after["metrics"]["correct_rate"]
    assert second["legacy"]["counts"][0][1] == 2 * first["legacy"]["counts"][0][1]
    assert second["legacy"]["fisher_p"] < first["legacy"]["fisher_p"]
    assert second["design_effect"] == pytest.approx(2 * first["design_effect"])
    for block in (first, second):
        for key in pooled:
            block.pop(key)
    assert canonical_json(second) == canonical_json(first)


@pytest.mark.parametrize(("seeds", "floor"), [(3, ".25"), (5, ".0625")])
def test_few_seeds_reach_no_verdict_whatever_the_data(arm, seeds: int, floor: str) -> None:
    rates = range(1, seeds + 1)
    report = evaluate_significance(
        arm("a", dict.fromkeys(rates, 0.1)),
        arm("b", {s: 0.9 - s / 80 for s in rates}),
        endpoint=ALL,
    )
    block = report["metrics"]["correct_rate"]
    assert (block["verdict"], block["reasons"]) == ("inconclusive", ["resolution_floor"])
    assert block["ci95"] == [None, None]
    assert f"{seeds} seeds can never give p below {floor};" in report["sentence"]
    assert "at least 6 are needed" in report["sentence"]
    assert block["legacy"]["agreement"] is False
    assert "treats completions of one run as independent" in report["disagreement"]


def test_declared_paired_t_may_decide_four_seeds_and_names_its_assumption(arm) -> None:
    low = arm("a", dict.fromkeys(range(1, 5), 0.2))
    high = arm("b", {s: 0.5 + 0.025 * (s % 2) for s in range(1, 5)})
    report = evaluate_significance(low, high, endpoint=ALL, primary_test="paired_t")
    block = report["metrics"]["correct_rate"]
    assert (block["verdict"], block["assumptions"]) == ("improvement", ["normal_differences"])
    assert block["ci_method"] == "student_t"
    fewer = evaluate_significance(low[:3], high[:3], endpoint=ALL, primary_test="paired_t")
    assert fewer["reasons"] == ["too_few_pairs"]


def test_one_run_per_arm_speaks_of_checkpoints_only(arm) -> None:
    report = evaluate_significance(arm("a", {1: 0.1}), arm("b", {1: 0.9}), endpoint=ALL)
    block = report["metrics"]["correct_rate"]
    assert (block["scope"], block["reasons"]) == ("checkpoint", ["single_run_per_arm"])
    assert report["recommendation"] == "insufficient_statistical_evidence"
    assert block["legacy"]["recommendation"] == "statistically_significant_improvement"
    assert block["checkpoint"]["unit"] == "prompt"
    assert block["checkpoint"]["delta"] == pytest.approx(block["delta"])
    assert "two checkpoints, not two methods" in report["sentence"]


FAILURE = {"kind": "algorithmic", "message": "loss is nan"}


def fail(folder: Path, seed: int, run_at) -> None:
    """Replace a run by one that diverged after four steps."""
    shutil.rmtree(folder)
    run_at(folder, seed=seed, condition="b", rate=0.9, steps=4, status="failed", failure=FAILURE)


def test_a_verdict_that_hangs_on_a_failed_run_is_none(arm, run_at) -> None:
    low, high = arm("a", LOW), arm("b", HIGH)
    fail(high[0], 1, run_at)
    report = evaluate_significance(low[:6], high[:6], endpoint=ALL)
    block = report["metrics"]["correct_rate"]
    assert (block["n_seeds"], block["p"]) == (6, 2 / 64)
    assert block["collapse"]["candidate"][:2] == [1, 6]
    intact, worst = block["sensitivity"]
    assert (intact["analysis"], intact["n_seeds"], intact["verdict"]) == (
        "complete_pairs",
        5,
        "inconclusive",
    )
    assert (worst["analysis"], worst["n_seeds"], worst["verdict"]) == (
        "worst_case",
        6,
        "inconclusive",
    )
    assert (report["verdict"], report["reasons"]) == ("inconclusive", ["sensitive_to_failures"])
    row = next(run for run in report["runs"] if run["origin"] == "carried_forward")
    assert row["failure"]["message"] == "loss is nan"


def test_a_verdict_that_survives_a_failed_run_stands(arm, run_at) -> None:
    low, high = arm("a", LOW), arm("b", HIGH)
    fail(high[0], 1, run_at)
    report = evaluate_significance(low, high, endpoint=ALL)
    rows = report["metrics"]["correct_rate"]["sensitivity"]
    assert [row["verdict"] for row in rows] == ["improvement", "improvement"]
    assert report["verdict"] == "improvement"


def test_planned_and_lost_runs_are_named_and_never_imputed(arm, run_at) -> None:
    low, high = arm("a", LOW), arm("b", HIGH)
    for name in ("result.json",):
        (high[7] / name).unlink()
    state = json.loads((high[7] / "run.json").read_text()) | {"status": "running"}
    (high[7] / "run.json").write_text(json.dumps(state))
    report = evaluate_significance(low, high, endpoint=ALL)
    assert report["metrics"]["correct_rate"]["n_seeds"] == 7
    assert any("1 run(s) have no outcome yet" in note for note in report["notes"])


def test_ordinary_noise_is_inconclusive_with_what_the_design_finds(arm) -> None:
    rates = {s: 0.3 + 0.025 * (s % 4) for s in range(1, 9)}
    other = {s: 0.3 + 0.025 * (s * 3 % 5) for s in range(1, 9)}
    report = evaluate_significance(arm("a", rates), arm("b", other), endpoint=ALL, effect=0.02)
    block = report["metrics"]["correct_rate"]
    assert (block["verdict"], block["reasons"]) == ("inconclusive", ["p_not_below_alpha"])
    assert block["ci95"][0] <= 0 <= block["ci95"][1]
    assert block["mde80"] == pytest.approx(1.19 * block["sd_differences"], rel=0.01)
    assert block["seeds_needed"] > 8
    assert f"About {block['seeds_needed']} seeds would give 80 % power" in report["sentence"]
    assert block["hedges_g"] == pytest.approx(block["dz"] * (1 - 3 / 27))
    assert block["t"]["df"] == 7


def test_folders_of_an_earlier_system_pair_by_order_and_say_so(tmp_path: Path, run_at) -> None:
    arms = [
        [run_at(tmp_path / f"{name}{i}", rate=rate, right=None, old=True) for i in range(2)]
        for name, rate in (("a", 0.2), ("b", 0.6))
    ]
    report = evaluate_significance(*arms, endpoint=ALL)
    assert any("paired in the order given" in note for note in report["notes"])
    assert report["sentence"].startswith("Over 2 pairs of runs, candidate minus baseline = ")
    assert report["metrics"]["correct_rate"]["legacy"]["counts"][0][1] == 160
    unequal = evaluate_significance(arms[0], arms[1][:1], endpoint=ALL)
    assert unequal["reasons"] == ["single_run_per_arm"]
    assert unequal["metrics"]["correct_rate"]["legacy"] is not None


def test_seed_in_the_folder_name_pairs_old_runs(tmp_path: Path, run_at) -> None:
    arms = [
        [run_at(tmp_path / f"{name}_s{seed}", rate=0.3, old=True) for seed in order]
        for name, order in (("a", (1, 2, 3)), ("b", (3, 1, 2)))
    ]
    block = evaluate_significance(*arms, endpoint=ALL)["metrics"]["correct_rate"]
    assert [pair[0] for pair in block["pairs"]] == [1, 2, 3]


def test_ungradable_completions_are_counted_apart(arm) -> None:
    low, high = arm("a", LOW), arm("b", HIGH)
    path = low[0] / "emergence" / "generations.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["correct"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = evaluate_significance(low, high, endpoint=ALL)
    assert report["metrics"]["correct_rate"]["legacy"]["counts"][0][1] == 640
    assert any("1 ungradable completion(s)" in note for note in report["notes"])


def test_a_truncated_file_is_an_error_with_its_line(arm) -> None:
    low, high = arm("a", LOW), arm("b", HIGH)
    path = high[2] / "emergence" / "generations.jsonl"
    path.write_text(path.read_text()[:-25])
    with pytest.raises(DataError, match=r"b_s3/emergence/generations.jsonl:80: truncated"):
        evaluate_significance(low, high)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"reward": 0.0', '"reward": NaN', "generations.jsonl:.*not strict JSON"),
        ('"reward": 0.0', '"reward": "x"', "jsonl:17: reward is .* expected a number or null"),
        ('"correct": true', '"correct": 2', "jsonl:.*: correct is .* expected true, false or null"),
    ],
)
def test_values_that_are_no_outcome_are_errors(arm, old: str, new: str, message: str) -> None:
    low, high = arm("a", LOW), arm("b", HIGH)
    path = high[2] / "emergence" / "generations.jsonl"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        evaluate_significance(low, high)


def test_mistyped_and_repeated_folders_are_errors(arm) -> None:
    low, high = arm("a", LOW), arm("b", HIGH)
    with pytest.raises(DataError, match=r"no such folder.*did you mean"):
        evaluate_significance([low[0].with_name("a_s11")], high)
    with pytest.raises(DataError, match="named twice in the baseline arm"):
        evaluate_significance([low[0], low[0]], high)
    with pytest.raises(DataError, match="candidate arm has no run folder"):
        evaluate_significance(low, [])
    with pytest.raises(ConfigError, match="alpha"):
        evaluate_significance(low, high, alpha=2)


def test_markdown_reads_sentence_table_assumptions_legacy(arm) -> None:
    report = evaluate_significance(arm("grpo", LOW), arm("maxrl", HIGH), endpoint=ALL)
    text = significance_markdown(report)
    places = [
        text.index(part)
        for part in (
            report["sentence"],
            "| correct_rate | maxrl − grpo | primary |",
            "## What this rests on",
            "## Legacy: pooled completions",
        )
    ]
    assert places == sorted(places)
