"""Promises: a predictor sees nothing that is the label or the future unless asked by name, and a
feature set has a name of its own."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cupel.config import validate
from cupel.errors import ConfigError, DataError, MissingExtraError
from cupel.teach.prediction.embedding import embed
from cupel.teach.prediction.feature_registry import REGISTRY, action_type, is_loop
from cupel.teach.prediction.features import (
    FeatureConfig,
    chosen,
    feature_matrix,
    feature_set_id,
    told_answers,
)
from tests.teach.teach_labels import labelled, moments

PLAIN = FeatureConfig(embedder="none")


def column(moment_rows: list, name: str, config: FeatureConfig = PLAIN) -> list[float]:
    matrix = feature_matrix(moment_rows, config)
    return matrix.values_ND[:, matrix.names.index(name)].tolist()


def test_the_default_sees_neither_labels_nor_the_future() -> None:
    kinds = {feature.provenance for feature in chosen(FeatureConfig())}
    assert kinds == {"structural", "student"}
    assert told_answers(FeatureConfig()) == ()


def test_no_default_feature_is_a_function_of_u() -> None:
    """With the student's distribution replaced nothing that is seen changes."""
    rows = moments(12)
    other = [replace(row, student_probs=None, outcome="success", offset=5) for row in rows]
    assert np.array_equal(
        feature_matrix(rows, PLAIN).values_ND, feature_matrix(other, PLAIN).values_ND
    )


def test_what_was_asked_by_name_is_given_and_marked() -> None:
    rows = labelled(6)
    config = FeatureConfig(embedder="none", also=["action_space_entropy", "steps_before_failure"])
    assert told_answers(config) == ("action_space_entropy", "steps_before_failure")
    entropy = column([row.moment for row in rows], "action_space_entropy", config)
    assert np.allclose(entropy, [row.U for row in rows])


def test_a_future_feature_that_no_moment_holds_is_an_error_and_not_a_zero() -> None:
    config = FeatureConfig(embedder="none", also=["trajectory_length"])
    with pytest.raises(DataError, match="trajectory_length' \\(future\\)"):
        feature_matrix(moments(2), config)


def test_a_distribution_that_was_not_kept_is_an_error_and_not_a_zero() -> None:
    config = FeatureConfig(embedder="none", also=["margin"])
    row = replace(moments(2)[0], student_probs=None)
    with pytest.raises(DataError, match="needs the student's distribution"):
        feature_matrix([row], config)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"also": ["entropy"]}, "no feature 'entropy'"), ({"groups": ["label"]}, "groups")],
)
def test_unknown_names_and_whole_groups_of_answers_are_refused(
    given: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(FeatureConfig, given, where="test")


def test_the_history_is_counted() -> None:
    row = moments(1)[0]
    actions = ("left", "right", "left", "right", "left")
    row = replace(row, snapshot=replace(row.snapshot, actions=actions), student_action="right")
    assert column([row], "in_loop") == [1.0]
    assert column([row], "same_action_before") == [2.0]
    assert column([row], "steps_since_progress") == [3.0]
    assert column([row], "repeat_rate") == [pytest.approx(0.6)]


def test_loops_and_types() -> None:
    assert is_loop(["a"] * 6)
    assert is_loop(["a", "b", "c", "a", "b", "c"])
    assert not is_loop(["a"] * 5)
    assert action_type("click[Buy Now]") == "click"
    row = moments(1)[0]
    shares = [column([row], f"actions_of_type_{i}")[0] for i in range(8)]
    assert sum(shares) == pytest.approx(1.0)


def test_rows_depend_on_their_own_moment_only() -> None:
    rows, config = moments(10), FeatureConfig(embedding_dim=32)
    together = feature_matrix(rows, config).values_ND
    alone = np.vstack([feature_matrix([row], config).values_ND for row in rows])
    assert np.array_equal(together, alone)


def test_single_digits_and_letters_reach_the_hashing_embedder() -> None:
    one, two = embed(["cell 1", "cell 2"], "hashing", dim=64, model="")
    assert not np.array_equal(one, two)
    assert np.linalg.norm(one) == pytest.approx(1.0)


def test_feature_sets_have_names() -> None:
    base = FeatureConfig()
    other = [
        FeatureConfig(embedding_dim=128),
        FeatureConfig(embedder="none"),
        FeatureConfig(groups=["structural"]),
        FeatureConfig(also=["margin"]),
    ]
    names = {feature_set_id(config) for config in [base, *other]}
    assert len(names) == 5
    assert feature_set_id(FeatureConfig(embedder="none", embedding_dim=9)) == feature_set_id(
        FeatureConfig(embedder="none")
    )


def test_every_feature_says_what_it_means() -> None:
    assert all(feature.meaning for feature in REGISTRY.values())
    assert list(REGISTRY) == [feature.name for feature in REGISTRY.values()]


@pytest.mark.parametrize(
    ("embedder", "package", "extra"),
    [("sentence", "sentence_transformers", "sentence"), ("hashing", "sklearn", "teach")],
)
def test_an_embedder_says_which_extra_is_missing(
    monkeypatch: pytest.MonkeyPatch, embedder: Any, package: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"cupel\[{extra}\]"):
        embed(["a"], embedder, dim=8, model="any")
