"""Checkpoints: resumed bit for bit, refused when of another architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cupel.arc.checkpoints import (
    WEIGHTS,
    load_decoder,
    load_model_weights,
    restore_checkpoint,
    write_checkpoint,
)
from cupel.arc.ema import Ema
from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.grids import Pair, Puzzle
from cupel.arc.halting import halt, halting_draws
from cupel.arc.items import ItemConfig, ItemStream
from cupel.arc.losses import sequence_losses, total_loss
from cupel.arc.model import ARCModel
from cupel.arc.model_config import (
    CoreConfig,
    HaltingConfig,
    ModelConfig,
    OptimizerConfig,
    architecture_hash,
)
from cupel.arc.optimizer import build_optimizer, clip_gradients, prepare_update
from cupel.arc.slots import SlotPool
from cupel.errors import DataError
from cupel.lab.randomness import Randomness

SIDE = 5


def generator(seed):
    return torch.Generator().manual_seed(seed)


def config_of(kind="variational", **core):
    settings = {"hidden_size": 16, "num_heads": 2, "n_context": 3, "H_cycles": 2, "L_cycles": 1}
    return ModelConfig(
        core=CoreConfig(**{**settings, **core}), encoder=EncoderConfig(kind=kind, num_layers=1)
    )


def puzzles():
    rng = np.random.default_rng(0)

    def pair():
        grids = [rng.integers(0, 10, (3, 3)).astype(np.uint8) for _ in range(2)]
        return Pair(input=grids[0], output=grids[1])

    return [
        Puzzle(id=f"p{n}", demos=tuple(pair() for _ in range(3)), tests=(pair(),)) for n in range(5)
    ]


class Training:
    """Everything a run holds, and one step of it."""

    def __init__(self, kind="adam_atan2", model_config=None):
        self.config = OptimizerConfig(optimizer=kind, lr=0.01, lr_warmup_steps=3, ema_rate=0.9)
        self.halting = HaltingConfig(halt_max_steps=3, halt_exploration_prob=0.3)
        self.model = ARCModel(model_config or config_of(), generator=generator(0))
        self.ema = Ema(self.model, rate=0.9)
        encoder, inner = self.model.encoder_parameters(), self.model.inner_parameters()
        self.optimizer = build_optimizer(encoder, inner, self.config)
        self.pool = SlotPool(slots=4, side=SIDE)
        self.stream = ItemStream(puzzles(), 0, ItemConfig(sides=(SIDE,)))
        self.randomness = Randomness(7)

    def step(self, update):
        prepare_update(self.optimizer, update, total_steps=20, config=self.config)
        batch = self.pool.refill(self.stream)
        output = self.model(batch, self.pool.carry, generator=generator(update))
        losses = sequence_losses(output.logits, output.q_halt, batch.label)
        total = total_loss(
            losses,
            output.encoder_losses,
            q_halt_weight=0.5,
            encoder_weights=self.model.config.encoder.loss_weights(),
        )
        total.backward()
        norms = clip_gradients(self.optimizer, 1.0)
        self.optimizer.step()
        self.ema.update()
        draws = halting_draws(self.randomness, step=update, side=SIDE, slots=4)
        self.pool.settle(halt(output.carry, output.q_halt, draws, self.halting))
        return total.item(), norms.total.item()

    def save(self, folder):
        write_checkpoint(
            folder,
            model=self.model,
            ema=self.ema,
            optimizer=self.optimizer,
            pools={SIDE: self.pool},
            streams=self.stream.state(),
            config=self.config,
        )

    def load(self, folder):
        streams = restore_checkpoint(
            folder,
            model=self.model,
            ema=self.ema,
            optimizer=self.optimizer,
            pools={SIDE: self.pool},
        )
        self.stream.restore(streams)


@pytest.mark.parametrize("kind", ["adam_atan2", "adamw"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(kind, tmp_path):
    straight = Training(kind)
    for update in range(1, 6):
        straight.step(update)
    straight.save(tmp_path)
    expected = [straight.step(update) for update in range(6, 11)]

    resumed = Training(kind)
    resumed.load(tmp_path)
    assert [resumed.step(update) for update in range(6, 11)] == expected
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    for name, value in straight.ema.state().items():
        assert torch.equal(value, resumed.ema.state()[name]), name
    assert torch.equal(straight.pool.carry.z_H, resumed.pool.carry.z_H)
    assert straight.stream.state() == resumed.stream.state()


def saved(tmp_path, **core):
    training = Training(model_config=config_of(**core))
    for update in (1, 2, 3):
        training.step(update)
    training.save(tmp_path)
    return training


def test_both_weight_sets_are_kept_and_told_apart(tmp_path):
    training = saved(tmp_path)
    other = ARCModel(config_of(), generator=generator(5))
    load_model_weights(tmp_path, other, which="raw")
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    load_model_weights(tmp_path, other, which="ema")
    for name, value in training.ema.state().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert not torch.equal(other.core.lm_head, training.model.core.lm_head)


def test_a_decoder_loads_into_any_encoder_and_touches_nothing_else(tmp_path):
    training = saved(tmp_path)
    other = ARCModel(config_of("cross_attention"), generator=generator(5))
    encoder = [p.detach().clone() for p in other.encoder.parameters()]
    for which, expected in (
        ("raw", training.model.core.lm_head),
        ("ema", training.ema.state()["core.lm_head"]),
    ):
        report = load_decoder(tmp_path, other, which=which)
        assert torch.equal(other.core.lm_head, expected)
        assert report.which == which
        assert report.loaded == tuple(sorted(other.core.state_dict()))
        assert all(name.startswith("encoder.") for name in report.dropped)
    assert torch.equal(other.core.H_init, training.model.core.H_init)
    for before, after in zip(encoder, other.encoder.parameters(), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize(
    ("key", "value"), [("L_cycles", 2), ("rope", "1d"), ("num_heads", 4), ("scale_context", True)]
)
def test_another_architecture_is_refused_by_name(key, value, tmp_path):
    """Settings that change no tensor's shape would otherwise load without a word."""
    saved(tmp_path)
    config = config_of(**{key: value})
    model = ARCModel(config, generator=generator(5))
    before = model.core.lm_head.detach().clone()
    with pytest.raises(DataError, match=rf"another architecture: {key} = .* \(this model: {value}"):
        load_decoder(tmp_path, model)
    with pytest.raises(DataError, match=f"core.{key}"):
        load_model_weights(tmp_path, model, which="raw")
    assert torch.equal(model.core.lm_head, before)
    assert architecture_hash(config.core) != architecture_hash(config_of().core)


def test_arithmetic_is_no_part_of_the_architecture(tmp_path):
    saved(tmp_path)
    model = ARCModel(config_of(forward_dtype="bfloat16"), generator=generator(5))
    assert load_decoder(tmp_path, model).loaded


def their_names(core):
    """A state dict as TinyRecursiveModels writes it, compiled and wrapped."""
    inner = {
        "H_init": core.H_init,
        "L_init": core.L_init,
        "embed_tokens.embedding_weight": core.embed_tokens,
        "lm_head.weight": core.lm_head,
        "q_head.weight": core.q_head.weight,
        "q_head.bias": core.q_head.bias,
        "puzzle_emb.weights": torch.zeros(7, 16),
    }
    for n, layer in enumerate(core.layers):
        prefix = f"L_level.layers.{n}."
        inner[prefix + "self_attn.qkv_proj.weight"] = layer.qkv
        inner[prefix + "self_attn.o_proj.weight"] = layer.out
        inner[prefix + "mlp.gate_up_proj.weight"] = layer.gate_up
        inner[prefix + "mlp.down_proj.weight"] = layer.down
    return {f"_orig_mod.model.inner.{name}": v.detach() for name, v in inner.items()}


def test_a_bare_state_dict_loads_once_it_is_said_what_it_is(tmp_path):
    theirs = ARCModel(config_of(), generator=generator(1)).core
    path = tmp_path / "step_1"
    torch.save(their_names(theirs), path)
    model = ARCModel(config_of(), generator=generator(2))
    with pytest.raises(DataError, match="does not say its architecture"):
        load_decoder(path, model)
    report = load_decoder(path, model, architecture_of_file=config_of().core)
    assert report.which == "unknown"
    assert report.dropped == ("_orig_mod.model.inner.puzzle_emb.weights",)
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, model.core.state_dict()[name]), name
    with pytest.raises(DataError, match="L_cycles = 3"):
        load_decoder(path, model, architecture_of_file=config_of(L_cycles=3).core)

    ours = {f"module.core.{n}": v for n, v in theirs.state_dict().items()}
    torch.save(ours, path)
    assert load_decoder(path, model, architecture_of_file=config_of().core).dropped == ()


def test_a_decoder_with_a_missing_or_misshapen_tensor_is_refused(tmp_path):
    core = ARCModel(config_of(), generator=generator(1)).core
    model = ARCModel(config_of(), generator=generator(2))
    before = model.core.embed_tokens.detach().clone()
    state = their_names(core)
    del state["_orig_mod.model.inner.lm_head.weight"]
    torch.save(state, tmp_path / "missing")
    state = their_names(core)
    state["_orig_mod.model.inner.q_head.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "misshapen")
    for name, message in (("missing", "lm_head is missing"), ("misshapen", r"is \(3,\), not \(2,")):
        with pytest.raises(DataError, match=message):
            load_decoder(tmp_path / name, model, architecture_of_file=config_of().core)
    assert torch.equal(model.core.embed_tokens, before)


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    model = ARCModel(config_of(), generator=generator(2))
    with pytest.raises(DataError, match="no such file"):
        load_decoder(tmp_path / "nothing", model)
    (tmp_path / WEIGHTS).write_bytes(b"these are not tensors")
    with pytest.raises(DataError, match="not a checkpoint"):
        load_decoder(tmp_path, model)
    torch.save([1, 2], tmp_path / WEIGHTS)
    with pytest.raises(DataError, match="holds a list"):
        load_decoder(tmp_path, model)


def test_a_run_without_an_average_says_so(tmp_path):
    training = saved(tmp_path)
    training.ema = None
    with pytest.raises(DataError, match="holds a moving average"):
        training.load(tmp_path)
    training.save(tmp_path)
    with pytest.raises(DataError, match="no averaged weights"):
        load_decoder(tmp_path, training.model)
    with pytest.raises(DataError, match="no averaged weights"):
        load_model_weights(tmp_path, training.model, which="ema")
    assert load_decoder(tmp_path, training.model, which="raw").which == "raw"


def test_slots_of_other_sides_are_refused(tmp_path):
    training = saved(tmp_path)
    with pytest.raises(DataError, match=r"slots of sides \[5\], this run has \[5, 6\]"):
        restore_checkpoint(
            tmp_path,
            model=training.model,
            ema=training.ema,
            optimizer=training.optimizer,
            pools={SIDE: training.pool, 6: SlotPool(slots=4, side=6)},
        )
