"""The small student's start: a decoder taught what a careless shopper does, and what notes mean.

Knows the recipe, its training and the measured success that it must reach. The loss is the cross
entropy between the shopper's distribution over all actions of a state and the model's, all actions
behind one prompt as in scoring. While it learns, the model is also asked, at each word of an item,
whether that word is as wished: without these questions it does not learn to compare in the time
given. Refuses to deliver a student that succeeds too rarely or too often to learn from.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cupel.config import fingerprint
from cupel.errors import AlgorithmicFailure
from cupel.lab.randomness import Randomness
from cupel.policy.actions import Row, lay_out, targets_of
from cupel.policy.built import BUILD_RECORD, SHOP, cache_root
from cupel.policy.config import PolicyConfig
from cupel.policy.distribution_cache import DistributionCache
from cupel.policy.tiny import tiny_model, tiny_tokenizer
from cupel.policy.tiny_build import machine_record, make_optimizers
from cupel.policy.tokens import PieceTokenizer
from cupel.policy.torch_policy import TorchPolicy
from cupel.teach.branches.branching import uniforms_of
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.environments.shop_catalogue import VERSION
from cupel.teach.rollouts.episodes import run_episodes
from cupel.teach.students.language import LanguageStudent
from cupel.teach.students.lessons import FIRST_TASK, SPECIALS, STEPS, WORDS, Lesson, lessons
from cupel.teach.students.prompts import TEMPLATE_VERSION, completion_of
from cupel.teach.students.student import StudentConfig

CORPUS = f"shop-{VERSION}-1"
"""Changes whenever a lesson does; enters the key."""
FIRST_PROBE = 2 * FIRST_TASK
"""Tasks on which success is measured: neither of the lessons nor of a study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopStart:
    """The recipe.

    Attributes:
        layers, heads, inner: the decoder's shape.
        steps, batch: of training; `note_share` of the lessons have a note where one is possible.
        muon_lr, lr: of the inner matrices and of the rest; linear warm-up, then linear decay.
        judge_from, judge_to: the questions about items are asked with full weight until the first
            share of the steps, then less and less until the second.
        probes: tasks of the final measurement.
        success_band: where the measured success at T = 1 must lie.
    """

    seed: int = 0
    layers: int = 2
    heads: int = 4
    inner: int = 256
    steps: int = 1500
    batch: int = 32
    note_share: float = 0.25
    muon_lr: float = 0.03
    lr: float = 4e-3
    warmup_steps: int = 20
    final_lr_share: float = 0.05
    judge_from: float = 0.3
    judge_to: float = 0.5
    probes: int = 1000
    success_band: tuple[float, float] = (0.30, 0.60)


def build_key(recipe: ShopStart) -> str:
    """Return the content key of a build."""
    return fingerprint(
        {
            "corpus": CORPUS,
            "template": TEMPLATE_VERSION,
            "words": [*SPECIALS, *WORDS],
            "recipe": asdict(recipe),
        }
    )


def cached_build(recipe: ShopStart, *, threads: int = 1) -> Path:
    """Return the folder of a built student: shipped, cached, or built now."""
    key = build_key(recipe)
    record = SHOP / BUILD_RECORD
    if record.is_file() and json.loads(record.read_text())["key"] == key:
        return SHOP
    folder = cache_root() / f"tiny-shop-{key}"
    if not (folder / BUILD_RECORD).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".tiny-shop-{key}-", dir=folder.parent))
        try:
            build_shop_student(recipe, scratch, threads=threads)
            if not folder.exists():
                os.replace(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def build_shop_student(recipe: ShopStart, folder: Path, *, threads: int = 1) -> dict[str, Any]:
    """Train, measure and write the student into an existing empty folder; return its record.

    Deterministic for one torch version, CPU kind and thread count.

    Raises:
        AlgorithmicFailure: the measured success at T = 1 is outside its band.
    """
    torch.set_num_threads(threads)
    model = tiny_model(
        len(SPECIALS) + len(WORDS),
        seed=recipe.seed,
        layers=recipe.layers,
        heads=recipe.heads,
        inner=recipe.inner,
    )
    tokenizer = tiny_tokenizer(SPECIALS, WORDS, spaced=True)
    policy = TorchPolicy(model, tokenizer, PolicyConfig(backend="tiny"), threads=threads)
    gaps = _train(policy, recipe)
    student = LanguageStudent(policy, StudentConfig(), DistributionCache(None))
    sampled = success_rate(student, recipe.probes)
    record = {
        "key": build_key(recipe),
        "corpus": CORPUS,
        "template": TEMPLATE_VERSION,
        "recipe": asdict(recipe),
        "steps": STEPS,
        "divergence_nats": round(float(np.mean(gaps[-200:])), 4),
        "success_sampled": sampled,
        "success_greedy": success_rate(student.with_temperature(0.0), recipe.probes),
        **machine_record(policy),
    }
    low, high = recipe.success_band
    if not low <= sampled <= high:
        raise AlgorithmicFailure(
            f"tiny shop student: success {sampled:.3f} at T = 1 is outside [{low}, {high}]. Use "
            "another recipe seed"
        )
    policy.save_model(folder)
    (folder / BUILD_RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return record


def success_rate(student: LanguageStudent, probes: int) -> float:
    """Return the share of successes on the probe tasks, one episode each."""
    episodes = run_episodes(
        EnvironmentConfig(name="shop", max_steps=STEPS),
        student,
        range(FIRST_PROBE, FIRST_PROBE + probes),
        uniforms=uniforms_of(Randomness(0), "warm start probe"),
        keep_probs=False,
    )
    return sum(episode.success for episode in episodes) / probes


def _train(policy: TorchPolicy, recipe: ShopStart) -> list[float]:
    """Train in place; return each step's divergence from the shopper, in nats a state."""
    rng = np.random.default_rng(np.random.SeedSequence(recipe.seed))
    batches = _batches(lessons(rng, note_share=recipe.note_share), recipe.batch, rng)
    trainer = _Trainer(policy)
    rates = (recipe.muon_lr, recipe.lr)
    optimizers = make_optimizers(policy.lm.model, muon_lr=rates[0], lr=rates[1])
    gaps = []
    with policy.lm.arithmetic():
        for step in range(1, recipe.steps + 1):
            for optimizer, rate in zip(optimizers, rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * _schedule(step, recipe)
                optimizer.zero_grad(set_to_none=True)
            batch = sorted(next(batches), key=lambda lesson: len(lesson.prompt))
            half = len(batch) // 2
            parts = [part for part in (batch[:half], batch[half:]) if part]
            share, questions = len(parts), _questions(step, recipe)
            gaps.append(sum(trainer.backward(part, share, questions) for part in parts))
            torch.nn.utils.clip_grad_norm_(policy.lm.model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
    trainer.close()
    return gaps


def _batches(
    source: Iterator[Lesson], size: int, rng: np.random.Generator
) -> Iterator[list[Lesson]]:
    """Yield batches drawn from a buffer, so that one shopper's steps are apart."""
    kept: list[Lesson] = []
    while True:
        kept += [next(source) for _ in range(8 * size - len(kept))]
        order = rng.permutation(len(kept))
        yield [kept[at] for at in order[:size]]
        kept = [kept[at] for at in sorted(order[size:])]


def _schedule(step: int, recipe: ShopStart) -> float:
    if step <= recipe.warmup_steps:
        return step / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return 1.0 - (1.0 - recipe.final_lr_share) * done


def _questions(step: int, recipe: ShopStart) -> float:
    """Return the weight of the questions about items."""
    width = recipe.judge_to - recipe.judge_from
    return float(np.clip((recipe.judge_to - step / recipe.steps) / width, 0.0, 1.0))


class _Trainer:
    """Gradients of lessons."""

    def __init__(self, policy: TorchPolicy) -> None:
        assert isinstance(policy.tokenizer, PieceTokenizer)
        self._lm, self._tokenizer = policy.lm, policy.tokenizer
        self._layers: dict[int, Tensor] = {}
        layers = policy.lm.decoder.layers
        self._hooks = [
            layers[at].register_forward_hook(self._keeper(at)) for at in range(len(layers) - 1)
        ]
        self._ids = {piece: at for at, piece in enumerate([*SPECIALS, *WORDS])}
        self._suffixes: dict[str, list[int]] = {}

    def close(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()

    def backward(self, batch: list[Lesson], share: int, questions: float) -> float:
        """Add the batch's gradient over `share`; return its part of the divergence."""
        rows = [self._row(at, lesson) for at, lesson in enumerate(batch)]
        width = max(row.length for row in rows)
        hidden_BTD = self._lm.branch(*lay_out(rows, width, self._tokenizer.pad_id))
        loss = self._actions(hidden_BTD.flatten(0, 1), rows, batch, width) / len(batch)
        entropy = sum(float(-(lesson.probs * np.log(lesson.probs)).sum()) for lesson in batch)
        gap = float(loss.detach()) - entropy / len(batch)
        if questions:
            loss = loss + questions * self._judgements(rows, batch, width)
        (loss / share).backward()  # type: ignore[no-untyped-call]
        return gap / share

    def _row(self, at: int, lesson: Lesson) -> Row:
        encode = self._tokenizer.encode
        prompt = encode(lesson.prompt)
        for action in lesson.actions:
            if action not in self._suffixes:
                joint = encode(lesson.prompt + completion_of(action))
                self._suffixes[action] = joint[len(prompt) :]
        assert self._ids["<unk>"] not in prompt, lesson.prompt
        return Row(at, prompt, [self._suffixes[action] for action in lesson.actions])

    def _actions(
        self, hidden_MD: Tensor, rows: list[Row], batch: list[Lesson], width: int
    ) -> Tensor:
        """Return the cross entropy with the lessons' distributions, summed over states."""
        at, targets, weights = [], [], []
        for row, lesson in zip(rows, batch, strict=True):
            reads, ids = targets_of(row, self._tokenizer.eos_id)
            at.append(row.index * width + len(row.prompt) - 1 + reads)
            targets.append(ids)
            weights.append(np.repeat(lesson.probs, [len(action) + 1 for action in row.actions]))
        logits = self._lm.logits(hidden_MD[torch.from_numpy(np.concatenate(at))])
        logs = torch.log_softmax(logits, dim=-1)
        picked = logs.gather(1, torch.from_numpy(np.concatenate(targets))[:, None])[:, 0]
        return -(picked * torch.from_numpy(np.concatenate(weights)).float()).sum()

    def _judgements(self, rows: list[Row], batch: list[Lesson], width: int) -> Tensor:
        """Ask the first layer about each word of an item, and the second about the whole item.

        The last layer is asked nothing: it has to choose.
        """
        words: tuple[list[int], list[int]] = ([], [])
        items: tuple[list[int], list[int]] = ([], [])
        price, ids = self._ids[" price"], self._ids
        for row, lesson in zip(rows, batch, strict=True):
            places = [at for at, piece in enumerate(row.prompt) if piece == price]
            for place, judged in zip(places[-len(lesson.judged) :], lesson.judged, strict=False):
                start = row.index * width + place
                words[0].extend(start + offset for offset in (-3, -2, -1, 1))
                words[1].extend(ids[" matches" if fits else " not"] for fits in judged)
                items[0].append(start + 2)
                items[1].append(ids[" right" if all(judged) else " wrong"])
        loss = torch.zeros(())
        for layer, (at, targets) in enumerate((words, items)):
            if at and layer in self._layers:
                hidden = self._layers[layer].flatten(0, 1)[torch.tensor(at)]
                logits = self._lm.logits(self._lm.decoder.norm(hidden))
                loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor(targets))
        return loss

    def _keeper(self, layer: int) -> Any:
        def keep(module: Any, inputs: Any, output: Any) -> None:
            self._layers[layer] = output[0] if isinstance(output, tuple) else output

        return keep
