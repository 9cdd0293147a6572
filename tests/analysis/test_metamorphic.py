"""What must not matter does not: order, duplication, units, the names of the arms."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.analysis import evaluate_significance, significance_markdown
from cupel.lab.study import Endpoint

SEEDS = range(1, 9)
ALL = Endpoint(over="all")
OF_COMPLETIONS = {"legacy", "design_effect", "icc_prompt", "icc_seed", "disagreement"}
"""Keys that speak of completions as a pile."""
MIRRORED = {"improvement": "degradation", "degradation": "improvement"}


def arms_at(root: Path, run_at: Any, shift: float) -> tuple[list[Path], list[Path]]:
    """Write two arms of noisy runs; eight problems, four answers each, at five steps."""
    arms = []
    for name, rate in (("a", 0.3), ("b", 0.3 + shift)):
        folders = []
        for seed in SEEDS:
            rng = np.random.default_rng([seed, name == "b"])
            level = rate + 0.08 * rng.normal() + np.linspace(-0.2, 0.2, 8)[:, None]
            right = rng.random((5, 8, 4)) < level
            folders.append(run_at(root / f"{name}_s{seed}", seed=seed, condition=name, right=right))
        arms.append(folders)
    return arms[0], arms[1]


@pytest.fixture(params=[0.0, 0.12, 0.3])
def arms(request, tmp_path: Path, run_at) -> tuple[list[Path], list[Path]]:
    return arms_at(tmp_path, run_at, request.param)


def evaluate(baseline: Sequence[Path], candidate: Sequence[Path]) -> dict[str, Any]:
    return evaluate_significance(baseline, candidate, endpoint=ALL, num_resamples=200, margin=0.05)


def rewrite(folders: Sequence[Path], change: Callable[[list[str]], list[str]]) -> None:
    for folder in folders:
        path = folder / "emergence" / "generations.jsonl"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def bytes_of(report: dict[str, Any]) -> bytes:
    """The report and its markdown, without the hashes of the files it was read from."""
    data = {**report, "provenance": {**report["provenance"], "inputs_sha256": None}}
    return (json.dumps(data) + significance_markdown(report)).encode()


def prompt_of(line: str) -> tuple[int, str]:
    row = json.loads(line)
    return row["step"], row["problem_id"]


def test_swapping_the_arms_flips_sign_and_word_everywhere(arms) -> None:
    forth, back = evaluate(*arms), evaluate(*arms[::-1])
    assert list(forth["metrics"]) == list(back["metrics"])
    for name, a in forth["metrics"].items():
        b = back["metrics"][name]
        assert b["delta"] == -a["delta"]
        assert b["verdict"] == MIRRORED.get(a["verdict"], a["verdict"])
        assert b["p"] == a["p"]
        assert b["ci95"] == pytest.approx([-a["ci95"][1], -a["ci95"][0]])
        assert b["t2"]["delta"] == pytest.approx(-a["t2"]["delta"])
        assert b["t2"]["p"] == pytest.approx(a["t2"]["p"])
        assert b["dz"] == pytest.approx(-a["dz"])
        assert b["hodges_lehmann"] == pytest.approx(-a["hodges_lehmann"])
        assert b["design_effect"] == pytest.approx(a["design_effect"])
        assert [s for s, _, _ in a["pairs"]] == [s for s, _, _ in b["pairs"]]


def test_order_of_completions_within_prompts_changes_no_byte(arms) -> None:
    before = bytes_of(evaluate(*arms))
    rng = np.random.default_rng(1)

    def shuffle_within(lines: list[str]) -> list[str]:
        groups = [list(group) for _, group in groupby(lines, key=prompt_of)]
        return [group[i] for group in groups for i in rng.permutation(len(group))]

    rewrite([*arms[0], *arms[1]], shuffle_within)
    assert bytes_of(evaluate(*arms)) == before


def test_order_of_prompts_within_seeds_changes_no_byte(arms) -> None:
    before = bytes_of(evaluate(*arms))
    rng = np.random.default_rng(2)

    def shuffle_prompts(lines: list[str]) -> list[str]:
        groups = [list(group) for _, group in groupby(lines, key=prompt_of)]
        return [line for i in rng.permutation(len(groups)) for line in groups[i]]

    rewrite([*arms[0], *arms[1]], shuffle_prompts)
    assert bytes_of(evaluate(*arms)) == before


def test_order_of_seeds_changes_no_byte(arms) -> None:
    low, high = arms
    rng = np.random.default_rng(3)
    before = bytes_of(evaluate(low, high))
    shuffled = [[arm[i] for i in rng.permutation(len(arm))] for arm in (low, high)]
    assert bytes_of(evaluate(*shuffled)) == before


def test_duplicating_every_completion_changes_only_the_legacy_block(arms) -> None:
    before = evaluate(*arms)
    rewrite([*arms[0], *arms[1]], lambda lines: [line for line in lines for _ in range(2)])
    after = evaluate(*arms)
    for name, block in before["metrics"].items():
        again = after["metrics"][name]
        changed = {key for key in block if block[key] != again[key]}
        assert changed <= OF_COMPLETIONS
        assert "legacy" in changed
    for key in ("verdict", "sentence", "recommendation", "runs", "notes"):
        assert after[key] == before[key]
    counts = [r["metrics"]["correct_rate"]["legacy"]["counts"][0][1] for r in (before, after)]
    assert counts[1] == 2 * counts[0]
    effects = [r["metrics"]["correct_rate"]["design_effect"] for r in (before, after)]
    assert effects[1] == pytest.approx(2 * effects[0])


def test_pooled_p_shrinks_with_copies_and_the_seeds_do_not_care(tmp_path: Path, run_at) -> None:
    """Copies carry no information: only a test that counts completions grows more certain."""
    arms = arms_at(tmp_path, run_at, 0.05)
    before = evaluate(*arms)["metrics"]["correct_rate"]
    rewrite([*arms[0], *arms[1]], lambda lines: lines * 16)
    after = evaluate(*arms)["metrics"]["correct_rate"]
    assert after["p"] == before["p"]
    assert after["t2"] == before["t2"]
    assert after["legacy"]["fisher_p"] < before["legacy"]["fisher_p"] / 10


def test_a_constant_added_to_both_arms_changes_no_difference(tmp_path: Path, run_at) -> None:
    def blocks(root: Path, offset: int) -> dict[str, Any]:
        arms = []
        for name, extra in (("a", 0), ("b", 3)):
            arms.append(
                [
                    run_at(
                        root / f"{name}_s{seed}",
                        seed=seed,
                        condition=name,
                        right=np.arange(64).reshape(8, 2, 4) < 16 + offset + extra * (seed % 3),
                    )
                    for seed in SEEDS
                ]
            )
        return evaluate(*arms)["metrics"]["correct_rate"]

    first, second = blocks(tmp_path / "x", 0), blocks(tmp_path / "y", 24)
    for key in ("p", "verdict", "reasons", "p_floor", "n_permutations"):
        assert second[key] == first[key]
    assert second["delta"] == pytest.approx(first["delta"])
    assert second["ci95"] == pytest.approx(first["ci95"])
