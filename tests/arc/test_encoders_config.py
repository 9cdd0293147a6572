"""No dead knobs: every setting a kind reads does something, every other one is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cupel.arc.encoder_config import ENCODER_KINDS, EncoderConfig
from cupel.arc.encoders import Encoder, build_encoder
from cupel.config import to_dict, validate
from cupel.errors import ConfigError

OTHER: dict[str, Any] = {
    "context_scale": "raw",
    "context_tokens": 2,
    "width": 8,
    "num_heads": 1,
    "num_layers": 3,
    "expansion": 2.0,
    "norm": "pre",
    "qk_norm": True,
    "layer_scale_init": 0.1,
    "pooling": "max",
    "set_layers": 2,
    "latent_dim": 6,
    "variational": True,
    "kl_weight": 0.5,
    "inducing_points": 2,
    "h_cycles": 2,
    "l_cycles": 1,
    "l_layers": 1,
    "pair_tokens": 2,
    "num_puzzles": 7,
}
BASES: list[dict[str, Any]] = [
    *({"kind": kind} for kind in ENCODER_KINDS if kind != "embedding"),
    {"kind": "lpn", "variational": True},
    {"kind": "hybrid", "variational": True},
    {"kind": "embedding", "num_puzzles": 5},
]
READ = [
    (base, name)
    for base in BASES
    for name in sorted(EncoderConfig(**base).fields_read() - {"kind"})
    if base.get(name) != OTHER[name]
]
UNREAD = [
    (base, name)
    for base in BASES
    for name in sorted(OTHER.keys() - EncoderConfig(**base).fields_read())
]


def label(value: object) -> str:
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else str(value)


def build(config: EncoderConfig) -> Encoder:
    generator = torch.Generator().manual_seed(0)
    return build_encoder(config, hidden_size=16, n_context=4, vocab=12, generator=generator)


def context(encoder: Encoder) -> torch.Tensor:
    tokens = torch.randint(0, 12, (3, 2, 16), generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([0, 1])
    out: torch.Tensor = encoder.eval()(
        tokens, torch.tensor([0, 1, 1]), 2, 4, puzzle_ids=ids
    ).context
    return out


def test_the_table_of_other_values_covers_every_setting() -> None:
    assert OTHER.keys() == EncoderConfig.model_fields.keys() - {"kind"}
    read = frozenset().union(*(EncoderConfig(**base).fields_read() for base in BASES))
    assert read == EncoderConfig.model_fields.keys()


@pytest.mark.parametrize(("base", "name"), READ, ids=label)
def test_a_setting_changes_parameters_output_or_weights(base: dict[str, Any], name: str) -> None:
    config = EncoderConfig(**base)
    changed = EncoderConfig(**{**base, name: OTHER[name]})
    before, after = build(config), build(changed)
    shapes = {key: value.shape for key, value in before.state_dict().items()}
    if shapes != {key: value.shape for key, value in after.state_dict().items()}:
        return
    if config.loss_weights() != changed.loss_weights():
        return
    after.load_state_dict(before.state_dict())
    assert not torch.allclose(context(before), context(after), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "attention", "weighted", "max"])
def test_every_pooling_is_another_function(pooling: str) -> None:
    contexts = {
        name: context(build(EncoderConfig.model_validate({"pooling": name})))
        for name in ("mean", "attention", "weighted", "max")
    }
    own = contexts.pop(pooling)
    assert all(not torch.allclose(own, other, atol=1e-4) for other in contexts.values())


@pytest.mark.parametrize(("base", "name"), UNREAD, ids=label)
def test_a_setting_that_is_not_read_is_refused(base: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' = .* is not read by kind '{base['kind']}"):
        validate(EncoderConfig, {**base, name: OTHER[name]}, where="run.toml")


@pytest.mark.parametrize("base", BASES, ids=label)
def test_a_config_survives_its_json(base: dict[str, Any]) -> None:
    config = EncoderConfig(**base)
    assert validate(EncoderConfig, to_dict(config), where="config.json") == config


def test_only_kinds_that_sample_have_a_loss_weight() -> None:
    weighted = [base for base in BASES if EncoderConfig(**base).loss_weights()]
    assert weighted == [
        {"kind": "variational"},
        {"kind": "lpn", "variational": True},
        {"kind": "hybrid", "variational": True},
    ]
    assert EncoderConfig(kind="variational", kl_weight=0.5).loss_weights() == {"kl": 0.5}


def test_sizes_that_do_not_fit_say_what_would() -> None:
    with pytest.raises(ConfigError, match="multiple of 4 channels"):
        build(EncoderConfig(num_heads=8))
    with pytest.raises(ConfigError, match="exceeds the 4 context positions"):
        build(EncoderConfig(context_tokens=5))
