"""Building the tiny model: supervised warm start until a measured accuracy, then a careless mix.

Knows two phases of next-token training and when to stop. Refuses to know the texts: a corpus
draws them and measures the policy. Phase one ends on measured accuracy because accuracy jumps
late: a fixed number of steps gives 0.2 in one run and 0.8 in another. Phase two mixes in guesses
and slips, so that reinforcement learning has something to select.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cupel.config import fingerprint
from cupel.errors import AlgorithmicFailure
from cupel.policy.built import BUILD_RECORD, SHIPPED, cache_root
from cupel.policy.config import PolicyConfig
from cupel.policy.protocol import Policy
from cupel.policy.tiny import tiny_model, tiny_tokenizer
from cupel.policy.torch_policy import TorchPolicy


class Corpus(Protocol):
    """Texts to learn from, and the measure of success."""

    name: Any
    specials: Any
    words: Any
    max_tokens: Any

    def clean(self, rng: np.random.Generator) -> tuple[str, str]:
        """Draw a prompt and a careful completion."""
        ...

    def mixed(self, rng: np.random.Generator) -> tuple[str, str]:
        """Draw a prompt and what a careless solver writes."""
        ...

    def accuracy(
        self, policy: Policy, *, probes: int, rng: np.random.Generator, temperature: float = 1.0
    ) -> float:
        """Return the share of correct completions on fresh problems."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """The recipe of both phases.

    Attributes:
        clean_*: phase one, Muon on the inner matrices, AdamW on the rest, linear decay.
        stop_accuracy: phase one ends at this measured accuracy at T = 1 (or at `clean_steps`).
        least_accuracy: phase one fails below this after all its steps.
        mixed_*: phase two, AdamW at a constant rate, until the measured accuracy has fallen to
            `mixed_stop_accuracy` (or for `mixed_steps`).
        accuracy_band: the built model's measured accuracy at T = 1 must lie inside.
    """

    seed: int = 0
    clean_steps: int = 600
    clean_batch: int = 32
    clean_muon_lr: float = 0.02
    clean_lr: float = 4e-3
    warmup_steps: int = 20
    final_lr_share: float = 0.1
    stop_accuracy: float = 0.92
    least_accuracy: float = 0.80
    probe_from: int = 200
    probe_every: int = 40
    probes: int = 512
    mixed_steps: int = 120
    mixed_batch: int = 64
    mixed_lr: float = 5e-4
    mixed_stop_accuracy: float = 0.24
    mixed_probe_from: int = 24
    mixed_probe_every: int = 1
    final_probes: int = 2048
    accuracy_band: tuple[float, float] = (0.17, 0.24)


def cached_build(corpus: Corpus, recipe: WarmStart, *, threads: int = 1) -> Path:
    """Return the folder of a built model: shipped, cached, or built now.

    The key covers the corpus name and vocabulary and the recipe.
    """
    key = build_key(corpus, recipe)
    if (SHIPPED / BUILD_RECORD).is_file():
        record = json.loads((SHIPPED / BUILD_RECORD).read_text())
        if record["key"] == key:
            return SHIPPED
    folder = cache_root() / f"tiny-{key}"
    if not (folder / BUILD_RECORD).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".tiny-{key}-", dir=folder.parent))
        try:
            build_tiny(corpus, recipe, scratch, threads=threads)
            if not folder.exists():
                os.replace(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def build_key(corpus: Corpus, recipe: WarmStart) -> str:
    """Return the content key of a build."""
    words = [*corpus.specials, *corpus.words]
    return fingerprint({"corpus": corpus.name, "words": words, "recipe": asdict(recipe)})


def build_tiny(
    corpus: Corpus, recipe: WarmStart, folder: Path, *, threads: int = 1
) -> dict[str, Any]:
    """Build, measure and write the model into an existing empty folder; return its record.

    Deterministic for one torch version, CPU kind and thread count.

    Raises:
        AlgorithmicFailure: phase one did not reach its least accuracy, or the built model's
            accuracy is outside its band.
    """
    torch.set_num_threads(threads)
    seeds = np.random.SeedSequence(recipe.seed).spawn(5)
    text_rng, probe_rng, mixed_rng, sampled_rng, greedy_rng = map(np.random.default_rng, seeds)
    tokenizer = tiny_tokenizer(corpus.specials, corpus.words)
    vocabulary = len(corpus.specials) + len(corpus.words)
    model = tiny_model(vocabulary, seed=recipe.seed)
    policy = TorchPolicy(model, tokenizer, PolicyConfig(backend="tiny"), threads=threads)
    trainer = _Trainer(policy, corpus.max_tokens)
    with policy.lm.arithmetic():
        steps, accuracy = _clean_phase(trainer, corpus, recipe, text_rng, probe_rng)
        mixed_steps = _mixed_phase(trainer, corpus, recipe, mixed_rng, probe_rng)
    accuracies = [
        corpus.accuracy(policy, probes=recipe.final_probes, rng=rng, temperature=temperature)
        for rng, temperature in ((sampled_rng, 1.0), (greedy_rng, 0.0))
    ]
    record = {
        "key": build_key(corpus, recipe),
        "corpus": corpus.name,
        "recipe": asdict(recipe),
        "clean_steps_taken": steps,
        "mixed_steps_taken": mixed_steps,
        "clean_accuracy": accuracy,
        "accuracy_sampled": accuracies[0],
        "accuracy_greedy": accuracies[1],
        **machine_record(policy),
    }
    low, high = recipe.accuracy_band
    if not low <= record["accuracy_sampled"] <= high:
        raise AlgorithmicFailure(
            f"tiny warm start: accuracy {record['accuracy_sampled']:.3f} at T = 1 is outside "
            f"[{low}, {high}]. Use another recipe seed"
        )
    policy.save_model(folder)
    (folder / BUILD_RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return record


def machine_record(policy: TorchPolicy) -> dict[str, Any]:
    """Return the weights' hash and what it depends on besides the recipe."""
    described = policy.describe()
    kept = ("weights_sha256", "parameters", "torch", "cpu_capability", "matmul_precision")
    return {key: described[key] for key in (*kept, "threads")}


class _Trainer:
    """Next-token steps on (prompt, completion) texts; the loss covers the completion only."""

    def __init__(self, policy: TorchPolicy, max_tokens: int) -> None:
        self.policy, self._max_tokens = policy, max_tokens

    def step(self, pairs: list[tuple[str, str]], optimizers: list[torch.optim.Optimizer]) -> float:
        inputs, targets = self._rows(pairs)
        model = self.policy.lm.model
        hidden = model.get_decoder()(input_ids=inputs, use_cache=False).last_hidden_state
        kept = targets >= 0
        logits = model.get_output_embeddings()(hidden[kept])
        loss: Tensor = torch.nn.functional.cross_entropy(logits, targets[kept])
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        return float(loss.detach())

    def _rows(self, pairs: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
        """Right-pad; causal attention never looks at padding behind a row."""
        tokenizer = self.policy.tokenizer
        rows = []
        for prompt, completion in pairs:
            opening = tokenizer.encode(prompt)
            both = [*tokenizer.encode(prompt + completion), tokenizer.eos_id]
            assert both[: len(opening)] == opening
            assert len(both) - len(opening) <= self._max_tokens
            rows.append((both, len(opening)))
        longest = max(len(ids) for ids, _ in rows) - 1
        inputs = torch.full((len(rows), longest), tokenizer.pad_id)
        targets = torch.full((len(rows), longest), -1)
        for index, (ids, opening_length) in enumerate(rows):
            row = torch.tensor(ids)
            inputs[index, : len(ids) - 1] = row[:-1]
            targets[index, opening_length - 1 : len(ids) - 1] = row[opening_length:]
        return inputs, targets


def _clean_phase(
    trainer: _Trainer,
    corpus: Corpus,
    recipe: WarmStart,
    text_rng: np.random.Generator,
    probe_rng: np.random.Generator,
) -> tuple[int, float]:
    """Train on careful texts until the measured accuracy is reached; return steps and accuracy."""
    policy = trainer.policy
    optimizers = make_optimizers(policy.lm.model, muon_lr=recipe.clean_muon_lr, lr=recipe.clean_lr)
    accuracy = 0.0
    for step in range(1, recipe.clean_steps + 1):
        for optimizer, rate in zip(
            optimizers, (recipe.clean_muon_lr, recipe.clean_lr), strict=True
        ):
            optimizer.param_groups[0]["lr"] = rate * _schedule(step, recipe)
        trainer.step([corpus.clean(text_rng) for _ in range(recipe.clean_batch)], optimizers)
        due = step >= recipe.probe_from and (step - recipe.probe_from) % recipe.probe_every == 0
        if due or step == recipe.clean_steps:
            accuracy = corpus.accuracy(policy, probes=recipe.probes, rng=probe_rng)
            if accuracy >= recipe.stop_accuracy:
                return step, accuracy
    if accuracy < recipe.least_accuracy:
        raise AlgorithmicFailure(
            f"tiny warm start: accuracy {accuracy:.3f} after {recipe.clean_steps} clean steps; at "
            f"least {recipe.least_accuracy} is needed. Use another recipe seed"
        )
    return recipe.clean_steps, accuracy


def _mixed_phase(
    trainer: _Trainer,
    corpus: Corpus,
    recipe: WarmStart,
    text_rng: np.random.Generator,
    probe_rng: np.random.Generator,
) -> int:
    """Train on careless texts until the accuracy has fallen far enough; return the steps."""
    policy = trainer.policy
    optimizer = torch.optim.AdamW(
        policy.lm.model.parameters(), lr=recipe.mixed_lr, weight_decay=0.0
    )
    for step in range(1, recipe.mixed_steps + 1):
        trainer.step([corpus.mixed(text_rng) for _ in range(recipe.mixed_batch)], [optimizer])
        late = step - recipe.mixed_probe_from
        if late >= 0 and late % recipe.mixed_probe_every == 0:
            found = corpus.accuracy(policy, probes=recipe.final_probes, rng=probe_rng)
            if found <= recipe.mixed_stop_accuracy:
                return step
    return recipe.mixed_steps


def make_optimizers(model: Any, *, muon_lr: float, lr: float) -> list[torch.optim.Optimizer]:
    """Return Muon for the inner matrices and AdamW for embedding and norms."""
    embedding = model.get_input_embeddings().weight
    inner = [p for p in model.parameters() if p.dim() == 2 and p is not embedding]
    others = [p for p in model.parameters() if p.dim() != 2 or p is embedding]
    return [
        torch.optim.Muon(inner, lr=muon_lr, weight_decay=0.0),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _schedule(step: int, recipe: WarmStart) -> float:
    """Return the learning rate's share: linear warm-up, then linear decay."""
    if step <= recipe.warmup_steps:
        return step / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / (recipe.clean_steps - recipe.warmup_steps)
    return 1.0 - (1.0 - recipe.final_lr_share) * done
