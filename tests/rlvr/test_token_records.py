"""emergence/tokens.jsonl: which groups, whose values, and the same bytes after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.lab import execute_run, read_jsonl
from cupel.rlvr.token_records import TOKENS, pieces_of, recorded_groups
from tests.rlvr.toy_runs import Ran, toy_run

SETTINGS: dict[str, Any] = {
    "max_steps": 6,
    "save_every": 2,
    "token_log_every": 3,
    "token_log_groups": 3,
    "log_tokens": True,
    "sepa_correct_rate_gate": 0.0,
    "sepa_steps": 2,
}


def tokens_of(ran: Ran) -> list[dict[str, Any]]:
    return read_jsonl(ran.folder / TOKENS)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return toy_run(tmp_path_factory.mktemp("tokens"), transform_mode="gtpo_sepa", **SETTINGS)


def test_every_third_step_and_the_last_have_whole_groups(ran: Ran) -> None:
    rows = tokens_of(ran)
    assert {row["step"] for row in rows} == {0, 3, 5}
    for step in (0, 3, 5):
        groups = [row["group"] for row in rows if row["step"] == step]
        assert len(set(groups)) == 3
        assert groups == sorted(groups)
        assert len(groups) == 3 * 8


def test_a_row_repeats_the_scores_of_its_completion(ran: Ran) -> None:
    logged = {(row["step"], row["group"], row["sample"]): row for row in ran.generations}
    for row in tokens_of(ran):
        twin = logged[row["step"], row["group"], row["sample"]]
        assert row["problem_id"] == twin["problem_id"]
        assert row["logprobs"] == twin["logprobs"]
        assert row["entropies"] == twin["entropies"]
        assert row["planning"] == twin["planning"]
        assert "".join(row["pieces"]) == twin["completion"]
        assert len(row["pieces"]) == len(row["advantages"]) == twin["num_tokens"]


@pytest.mark.parametrize("mode", ["none", "gtpo_sepa", "entropy_mask"])
def test_shaping_keeps_the_sign_and_none_keeps_the_value(tmp_path: Path, mode: str) -> None:
    rows = tokens_of(toy_run(tmp_path, transform_mode=mode, **SETTINGS))
    assert any(row["advantage"] != 0 for row in rows)
    shaped = [(row["advantage"], value) for row in rows for value in row["advantages"]]
    if mode == "none":
        assert all(before == pytest.approx(after, abs=1e-4) for before, after in shaped)
    else:
        assert any(abs(before - after) > 1e-3 for before, after in shaped)
        assert all(before * after >= 0 for before, after in shaped)


def test_gtpo_spreads_a_completions_advantage_without_changing_its_mean(tmp_path: Path) -> None:
    for row in tokens_of(toy_run(tmp_path, transform_mode="gtpo", **SETTINGS)):
        assert np.mean(row["advantages"]) == pytest.approx(row["advantage"], abs=1e-4)


def test_the_record_changes_nothing_else_and_can_be_left_out(tmp_path: Path, ran: Ran) -> None:
    plain = toy_run(
        tmp_path, transform_mode="gtpo_sepa", **{**SETTINGS, "token_log_every": 0}
    ).record
    assert plain[TOKENS] == b""
    streams = ("metrics.jsonl", "emergence/generations.jsonl")
    assert [plain[name] for name in streams] == [ran.record[name] for name in streams]


def test_a_killed_run_continues_to_the_same_bytes(tmp_path: Path, ran: Ran) -> None:
    broken = toy_run(tmp_path, transform_mode="gtpo_sepa", **SETTINGS)
    (broken.folder / "result.json").unlink()
    newest = sorted((broken.folder / "checkpoints").iterdir())[-1]
    (newest / "logits.npy").write_bytes(b"torn")
    assert execute_run(broken.folder, fsync=False) == "done"
    assert broken.record[TOKENS] == ran.record[TOKENS] != b""


def test_mixed_groups_come_first_and_uniform_ones_fill_up() -> None:
    rewards_PG = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    assert recorded_groups(rewards_PG, 1) == [1]
    assert recorded_groups(rewards_PG, 3) == [0, 1, 3]
    assert recorded_groups(rewards_PG, 9) == [0, 1, 2, 3]


@given(text=st.text(max_size=12), cuts=st.sets(st.integers(0, 40)))
def test_pieces_join_to_the_text_wherever_it_is_cut(text: str, cuts: set[int]) -> None:
    data = text.encode()
    ends = sorted({cut for cut in cuts if cut < len(data)} | {len(data)})
    parts = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert "".join(pieces_of(range(len(parts)), parts)) == text


def test_bytes_that_are_no_text_are_marked() -> None:
    assert pieces_of([0, 1, 1], [b"\xff", b"\xe2"]) == ["\ufffd", "", "\ufffd\ufffd"]
