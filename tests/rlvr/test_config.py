"""Settings: the defaults of each backend, and every contradiction refused in one line."""

from __future__ import annotations

from typing import Any

import pytest

from cupel.config import merge, to_dict, validate
from cupel.errors import ConfigError
from cupel.rlvr.algorithms import ALGORITHMS, CONSTANTS, label_of_algorithm
from cupel.rlvr.campaign import condition_settings
from cupel.rlvr.config import BACKEND_DEFAULTS, TrainConfig, with_backend_defaults
from cupel.rlvr.sweep import method_of


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
    ("algorithm", "label"),
    [
        ("grpo", "grpo+none"),
        ("full", "maxrl+gtpo_sepa"),
        ("rloo", "rloo+none"),
        ("reinforce_pp", "reinforce_pp+none+ppo"),
        ("dr_grpo", "grpo+none+dr_grpo"),
        ("dapo", "grpo+none+dapo"),
        ("gspo", "grpo+none+gspo"),
        ("cispo", "grpo+none+cispo"),
    ],
)
def test_an_algorithm_stands_for_modes_and_loss(algorithm: str, label: str) -> None:
    named = resolved(backend="toy", algorithm=algorithm)
    assert named.label == label_of_algorithm(algorithm) == label
    same = ALGORITHMS[algorithm]
    assert resolved(backend="toy", algorithm=algorithm, **same) == named
    assert resolved(**to_dict(named)) == named
    spelled = resolved(backend="toy", **merge(CONSTANTS.get(algorithm, {}), same))
    assert spelled.model_copy(update={"algorithm": algorithm}) == named
    assert method_of(algorithm) == method_of(label) == label
    assert resolved(backend="toy", **condition_settings(label)).label == label


def test_labels_of_algorithms_differ_and_every_label_reads_back() -> None:
    labels = {label_of_algorithm(name) for name in ALGORITHMS}
    assert len(labels) == len(ALGORITHMS)
    for label in (
        *("maxrl+gtpo+cispo", "maxrl+gtpo_sepa+hicra+gspo", "rloo+entropy_mask+dapo"),
        *("grpo+none+ppo", "reinforce_pp_baseline+none"),
    ):
        assert (
            resolved(backend="toy", **condition_settings(label)).label == label == method_of(label)
        )


def test_a_loss_beside_another_transform_is_the_algorithm_in_all_but_the_transform() -> None:
    """Else two conditions would differ by more than their labels say."""
    for name in ("dr_grpo", "dapo", "gspo", "cispo"):
        named = to_dict(resolved(backend="toy", algorithm=name))
        beside = to_dict(resolved(backend="toy", **condition_settings(f"grpo+gtpo+{name}")))
        changed = {key for key in named if named[key] != beside[key]}
        assert changed == {"algorithm", "transform_mode"}
    bare = resolved(backend="toy", **condition_settings("maxrl+none+dapo"))
    assert (bare.overlong_buffer_rate, bare.normalize) == (0.0, "none")


def test_constants_of_an_algorithm_may_be_tuned_but_not_what_it_is() -> None:
    tuned = resolved(backend="toy", algorithm="dapo", loss={"clip_eps_high": 0.5})
    assert (tuned.loss.clip_eps, tuned.loss.clip_eps_high) == (0.2, 0.5)
    assert tuned.overlong_buffer_rate == 0.2
    assert tuned.label == "grpo+none+dapo"
    gspo = resolved(backend="toy", algorithm="gspo")
    assert (gspo.loss.clip_eps, gspo.loss.clip_eps_high, gspo.normalize) == (3e-4, 4e-4, "std")


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
        (
            {"algorithm": "dapo", "loss": {"kind": "gspo"}},
            "algorithm = 'dapo' means loss.kind = 'ppo', but loss.kind = 'gspo' was given",
        ),
        (
            {"algorithm": "dr_grpo", "normalize": "std"},
            "algorithm = 'dr_grpo' means normalize = 'none', but normalize = 'std' was given",
        ),
        (
            {"algorithm": "dapo", "uninformative_groups": "drop"},
            "means uninformative_groups = 'resample'",
        ),
        (
            {"advantage_mode": "reinforce_pp", "uninformative_groups": "resample"},
            "whose baseline is the batch",
        ),
        ({"overlong_buffer_rate": 0.2}, "with advantage_mode 'maxrl'"),
        (
            {"loss": {"sampler_correction": "truncate"}, "top_p": 0.9},
            "the sampler never draws what it cut off",
        ),
        (
            {"transform_mode": "entropy_mask", "uncertainty_kind": "surprisal"},
            "use uncertainty_kind = 'entropy'",
        ),
        ({"transform_mode": "gtpo_paper", "gtpo_beta": 1.5}, "gtpo_beta of at most 1"),
        ({"gtpo_normalize": "outcome"}, "only gtpo_paper has the choice"),
        ({"advantage_mode": "rloo", "normalize": "std"}, "normalize = 'std'"),
        ({"loss": {"kind": "cispo"}}, "give loss.clip_eps_high"),
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
