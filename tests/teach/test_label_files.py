"""Labelled moments come back from disk as they went there, and old forms are read."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import ConfigError, DataError
from cupel.teach.environments.base import take_snapshot
from cupel.teach.environments.corridor import Corridor
from cupel.teach.labelling.files import LINES, LIST, read_labels, row_of, snapshot_row, write_labels
from cupel.teach.labelling.labels import (
    Depth,
    Estimate,
    LabelledMoment,
    Leverage,
    PatchTest,
    Uncertainty,
)
from cupel.teach.records import Hint, Moment, to_row


def moment_at(seed: int, actions: tuple[str, ...] = ()) -> Moment:
    corridor = Corridor()
    corridor.reset(seed)
    for action in actions:
        corridor.step(action)
    return Moment(
        snapshot=take_snapshot(corridor), task=corridor.task(), observation=corridor.observe(),
        valid_actions=corridor.valid_actions(), step_idx=len(actions), trajectory_id="t",
        outcome="failure", student_action="leap", student_probs=None, failure_type="wrong_action",
        anchor_step=len(actions), anchor_rule="regret", offset=0, key_hash="k",
    )  # fmt: skip


finite = st.floats(-1, 1, allow_nan=False)
counts = st.none() | st.integers(1, 99)
estimates = st.builds(Estimate, value=finite, lo=finite, hi=finite, n=counts)
leverages = st.builds(
    Leverage, p_policy=estimates, p_force=estimates, p_expert=estimates, L_local=estimates,
    L_upper=estimates,
)  # fmt: skip


@st.composite
def patch_tests(draw: st.DrawFn) -> PatchTest:
    formats = draw(st.sampled_from([("demo", "hint"), ("demo", "contrast", "hint"), ("demo",)]))
    by_format = st.fixed_dictionaries(dict.fromkeys(formats, estimates))
    return PatchTest(
        p_base=draw(estimates), p_placebo=draw(estimates), p_shuffled=draw(st.none() | estimates),
        p=draw(by_format), gain_raw=draw(by_format), gain_net=draw(by_format),
        ELP_raw=draw(finite), ELP_net=draw(finite), route_net=formats[-1],
        ELP_split=draw(st.none() | estimates), route_split=draw(st.sampled_from([None, *formats])),
        oracle_half=draw(st.none() | finite), total_episodes=draw(st.integers(0, 99)),
    )  # fmt: skip


labels = st.builds(
    LabelledMoment,
    moment=st.just(moment_at(1, ("right", "left"))),
    hint=st.none()
    | st.builds(Hint, snapshot_id=st.just("x"), teacher=st.just("t"), valid=st.booleans()),
    U=st.none() | finite,
    uncertainty=st.none()
    | st.builds(
        Uncertainty, entropy=finite, entropy_norm=finite, margin=finite, topk_spread=finite,
        effective_actions=finite, n_actions=st.integers(1, 9),
    ),
    leverage=st.none() | leverages,
    patch_test=st.none() | patch_tests(),
    depth=st.none()
    | st.builds(
        Depth, d_expert=counts, d_force=counts, offsets=st.lists(st.integers(0, 9)).map(tuple)
    ),
    quadrant=st.sampled_from(["Q1_highU_highL", "UNASSIGNED"]),
    quadrant_probs=st.dictionaries(st.sampled_from(["Q1_highU_highL"]), finite),
)  # fmt: skip


@given(label=labels)
def test_a_row_comes_back_as_it_went(
    label: LabelledMoment, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("labels")
    write_labels(folder, [label])
    assert read_labels(folder / LINES) == (label,)
    assert read_labels(folder / LIST) == (label,)


@pytest.mark.parametrize("key", ["snapshots", "items", "data"])
def test_rows_in_an_object_are_found(tmp_path: Path, key: str) -> None:
    rows = [row_of(LabelledMoment(moment=moment_at(seed), hint=None)) for seed in (1, 2)]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({key: rows}))
    assert [label.moment.snapshot.seed for label in read_labels(path)] == [1, 2]


def test_plain_moments_are_unlabelled_rows(tmp_path: Path) -> None:
    path = tmp_path / "moments.jsonl"
    path.write_text(json.dumps(to_row(moment_at(1))) + "\n")
    (label,) = read_labels(path)
    assert label == LabelledMoment(moment=moment_at(1), hint=None)


def test_the_documented_keys_stand_in_the_row() -> None:
    one = Estimate(value=0.5, lo=0.2, hi=0.8, n=7)
    three = dict.fromkeys(("demo", "contrast", "hint"), one)
    row = row_of(
        LabelledMoment(
            moment=moment_at(1, ("right",)), hint=None, U=0.4,
            leverage=Leverage(p_policy=one, p_force=one, p_expert=one, L_local=one, L_upper=one),
            patch_test=PatchTest(
                p_base=one, p_placebo=one, p_shuffled=None, p=three, gain_raw=three,
                gain_net=three, ELP_raw=0.5, ELP_net=0.5, route_net="demo", ELP_split=None,
                route_split=None, oracle_half=None, total_episodes=35,
            ),
            depth=Depth(d_expert=0, d_force=2, offsets=(0, 1, 2)),
        )
    )  # fmt: skip
    assert {"snapshot", "U", "uncertainty_features", "leverage", "cpt", "depth", "quadrant",
            "held_out", "split", "snapshot_id"} <= set(row)  # fmt: skip
    assert row["leverage"]["n_force_rollouts"] == 7
    assert row["leverage"]["leverage_gap"] == 0.0
    assert row["cpt"]["n_per_condition"] == 7
    assert row["cpt"]["patch_gain_net"] == {"demo": 0.5, "contrast": 0.5, "hint": 0.5}
    assert row["cpt"]["p_base_retention"] is None
    assert row["depth"]["depth_gap"] == 2


def test_a_state_travels_in_the_snapshot_and_timestamps_do_not() -> None:
    row = snapshot_row(moment_at(1, ("right",)))
    state = json.loads(base64.b64decode(row["env_state_b64"]))
    assert (state["seed"], state["actions"]) == (1, ["right"])
    assert row["timestamp"] is None
    assert row["last_action"] == "right"


def test_a_snapshot_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moments.jsonl"
    path.write_text(2 * (json.dumps(to_row(moment_at(1))) + "\n"))
    with pytest.raises(DataError, match=r"row 2: snapshot .* again, first in row 1"):
        read_labels(path)


def test_a_row_without_its_moment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps([{"snapshot": {"id": "a"}, "U": 0.3}]))
    with pytest.raises(DataError, match="row 1: no 'moment'"):
        read_labels(path)


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    label = replace(LabelledMoment(moment=moment_at(1), hint=None), U=float("nan"))
    with pytest.raises(ConfigError):
        write_labels(tmp_path, [label])
    assert not (tmp_path / LINES).exists()
