"""Settings: the defaults of each backend, and every contradiction refused in one line."""

from __future__ import annotations

from typing import Any

import pytest

from cupel.config import to_dict, validate
from cupel.errors import ConfigError
from cupel.rlvr.config import ALGORITHMS, BACKEND_DEFAULTS, TrainConfig, with_backend_defaults


def resolved(**settings: Any) -> TrainConfig:
    return validate(TrainConfig, with_backend_defaults(settings), where="here")


@pytest.mark.parametrize("backend", ["tiny", "toy"])
def test_defaults_of_a_backend_lie_under_what_was_passed(backend: str) -> None:
    plain = resolved(backend=backend)
    for key, value in BACKEND_DEFAULTS[backend].items():
        found = to_dict(plain)[key]
        if isinstance(value, dict):
            assert {name: found[name] for name in value} == value
        else:
            assert found == value
    passed = resolved(backend=backend, lr=0.5, evaluation={"every": 3})
    assert (passed.lr, passed.evaluation.every) == (0.5, 3)
    assert passed.evaluation.problems == plain.evaluation.problems
    assert passed.max_steps == plain.max_steps


def test_resolving_again_changes_nothing() -> None:
    for backend in ("tiny", "toy"):
        once = resolved(backend=backend, algorithm="full")
        assert validate(TrainConfig, to_dict(once), where="again") == once
        assert resolved(**to_dict(once)) == once


@pytest.mark.parametrize(
    ("algorithm", "label"), [("grpo", "grpo+none"), ("full", "maxrl+gtpo_sepa")]
)
def test_an_algorithm_stands_for_two_modes(algorithm: str, label: str) -> None:
    assert resolved(backend="toy", algorithm=algorithm).label == label
    same = ALGORITHMS[algorithm]
    assert resolved(backend="toy", algorithm=algorithm, **same).label == label


def test_the_label_tells_of_a_second_amplification() -> None:
    assert resolved(backend="toy", hicra_after_sepa=True).label == "maxrl+gtpo_sepa+hicra"
    gtpo = resolved(backend="toy", hicra_after_sepa=True, transform_mode="gtpo")
    assert gtpo.label == "maxrl+gtpo"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lr": 0}, "lr = 0: Input should be greater than 0"),
        ({"lrr": 1.0}, "unknown key 'lrr'; did you mean 'lr'?"),
        ({"evaluation": {"evry": 1}}, "unknown key 'evaluation.evry'; did you mean 'every'?"),
        ({"algorithm": "grpo", "transform_mode": "gtpo"}, "means transform_mode = 'none'"),
        ({"model": "x/y"}, "which has its own model"),
        ({"backend": "torch"}, "needs a model"),
        ({"policy": {"backend": "torch"}}, "unknown key 'policy.backend'"),
        ({"policy": {"model": "x/y"}}, "unknown key 'policy.model'"),
        ({"updates_per_batch": 2}, "use loss.kind = 'ppo'"),
        ({"normalize": "std"}, "normalize = 'std' with advantage_mode 'maxrl'"),
        ({"loss": {"kind": "ppo", "clip_eps": 1.5}}, "loss.clip_eps = 1.5"),
        ({"loss": {"dual_clip": 3.0}}, "does not clip"),
        ({"loss": {"kind": "ppo", "dual_clip": 1.0}}, "loss.dual_clip = 1; it must be > 1"),
        ({"evaluation": {"start_band": [0.3, 0.1]}}, "0 <= low <= high <= 1"),
        ({"evaluation": {"start_band": [15, 25]}}, "0 <= low <= high <= 1"),
        ({"problems": {"source": "jsonl"}}, "a path is needed"),
        ({"sepa_correct_rate_gate": 1.5}, "sepa_correct_rate_gate = 1.5"),
    ],
)
def test_a_contradiction_is_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(**{"backend": "toy", **settings})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_grpo_may_be_divided_by_the_deviation() -> None:
    assert resolved(backend="toy", advantage_mode="grpo", normalize="std").normalize == "std"
