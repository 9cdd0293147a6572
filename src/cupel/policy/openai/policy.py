"""A torch policy with adapters whose completions come from an OpenAI-compatible server.

Knows when the server's weights are out of date and what its log-probabilities mean. Scoring,
updates and checkpoints are the trainer's own. Refuses to sample from weights that are not the
trainer's, and to guess a probability that the server does not tell.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupel.errors import ConfigError, InfrastructureFailure
from cupel.policy.config import PolicyConfig
from cupel.policy.load import load_torch_policy
from cupel.policy.openai.adapter_sync import PROBE_TEXT, AdapterSync, Verified
from cupel.policy.openai.sampling import ask_all, seeds_of, sheet_of
from cupel.policy.openai.server import Server
from cupel.policy.openai.trial import Told, check_model, find_told, score_ids
from cupel.policy.openai.wire import Asked, dialect_of
from cupel.policy.protocol import (
    Capabilities,
    Completions,
    Credit,
    FloatNT,
    LossConfig,
    Scores,
    Tokenizer,
    UpdateResult,
)
from cupel.policy.torch_policy import TorchPolicy


class OpenAIPolicy:
    """Samples on a server; scores and trains adapters here."""

    def __init__(self, trainer: TorchPolicy) -> None:
        """Reach the server, bring it the adapters, and find out what it tells.

        Raises:
            ConfigError: the server is not there, refuses the key, serves another model, or cannot
                do what is needed; the message says which.
            MissingExtraError: `openai` is not installed.
        """
        self._trainer = trainer
        self._settings = trainer.config.openai
        self.tokenizer: Tokenizer = trainer.tokenizer
        theirs = trainer.capabilities
        self.capabilities = Capabilities(
            token_advantages=theirs.token_advantages,
            entropies=theirs.entropies,
            exact_resume=False,
            reference=theirs.reference,
        )
        self._vocabulary = int(trainer.lm.head_weight.shape[0])
        self._in_flight = trainer.config.sample_rows
        self._dialect = dialect_of(self._settings.flavour)
        self._outdated = True
        self._server = Server(self._settings)
        leaving = ExitStack()
        leaving.callback(self._server.close)
        self.close = weakref.finalize(self, leaving.close)
        """Forget the adapters on the server and the shared disk, and close the connections; the
        end of the policy or of the process does the same."""
        probe_ids = self.tokenizer.encode(PROBE_TEXT)
        try:
            check_model(self._server, str(self._settings.served_model or trainer.config.model))
            self._sync = AdapterSync(
                self._settings,
                self._server,
                self._dialect,
                save=trainer.save_model,
                probe_ids=probe_ids,
                score_probe=lambda: score_ids(trainer, probe_ids),
            )
            leaving.callback(self._sync.close)
            self._refresh()
            assert self._sync.version is not None
            self.told: Told = find_told(
                self._server, self._dialect, self._sync.version, trainer, probe_ids
            )
        except InfrastructureFailure as error:
            self.close()
            raise ConfigError(f"backend 'openai': {error}") from None

    @property
    def verified(self) -> Verified | None:
        """What the last change of weights on the server was found to be."""
        return self._sync.verified

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        group_size: int,
        max_tokens: int,
        temperature: float,
        top_p: float,
        uniforms_NT: NDArray[np.float64],
    ) -> Completions:
        """Sample on the server, after bringing it the trainer's weights where they have changed.

        Each completion's seed comes from its uniforms; what a server makes of a seed depends on
        its version, batch and hardware, so results repeat in distribution only.

        Raises:
            InfrastructureFailure: a completion failed, or the server's weights are stale.
            ConfigError: the server does not tell the probabilities that these settings need.
        """
        self._check_told(temperature, top_p)
        if self._outdated:
            self._refresh()
        assert self._sync.version is not None
        rows = [prompt for prompt in prompts for _ in range(group_size)]
        drawn = ask_all(
            self._server,
            self._dialect,
            self._sync.version,
            [
                self._asked(prompt, seed, max_tokens, temperature, top_p)
                for prompt, seed in zip(rows, seeds_of(uniforms_NT), strict=True)
            ],
            vocabulary=self._vocabulary,
            in_flight=self._in_flight,
        )
        sheet = sheet_of(drawn, width=max_tokens, pad_id=self.tokenizer.pad_id)
        greedy, plain = temperature == 0, temperature == 1 and top_p == 1
        completions = Completions(
            prompts=tuple(tuple(prompt) for prompt in prompts),
            group_size=group_size,
            tokens_NT=sheet.tokens_NT,
            lengths_N=sheet.lengths_N,
            finished_N=sheet.finished_N,
            sampler_logprobs_NT=np.zeros_like(sheet.logprobs_NT) if greedy else sheet.logprobs_NT,
            policy_logprobs_NT=sheet.logprobs_NT,
        )
        return completions if greedy or plain else self._with_trainers(completions)

    def score(self, completions: Completions) -> Scores:
        """Score every row at T = 1 under the trainer's current weights."""
        return self._trainer.score(completions)

    def score_reference(self, completions: Completions) -> FloatNT:
        """Return log pi of every sampled token under the weights this run started from."""
        return self._trainer.score_reference(completions)

    def update(
        self,
        completions: Completions,
        *,
        trained_N: NDArray[np.bool_],
        credit: Credit,
        loss: LossConfig,
        lr: float,
        old_logprobs_NT: FloatNT | None = None,
        reference_logprobs_NT: FloatNT | None = None,
    ) -> UpdateResult:
        """Take one step here; the server gets the new weights before the next sample.

        Raises:
            AlgorithmicFailure: a loss or gradient is not finite; parameters are unchanged.
        """
        self._outdated = self._outdated or bool(trained_N.any())
        return self._trainer.update(
            completions,
            trained_N=trained_N,
            credit=credit,
            loss=loss,
            lr=lr,
            old_logprobs_NT=old_logprobs_NT,
            reference_logprobs_NT=reference_logprobs_NT,
        )

    def set_concurrency(self, setting: str, value: int) -> None:
        """Set the requests in flight (`sample_rows`) or the trainer's `microbatch_tokens`."""
        if setting == "sample_rows":
            self._in_flight = value
        else:
            self._trainer.set_concurrency(setting, value)

    def save(self, folder: Path) -> None:
        """Write adapters and optimizer state; see `TorchPolicy.save`."""
        self._trainer.save(folder)

    def save_model(self, folder: Path, *, merge: bool = False) -> None:
        """Write a folder to start other runs from; see `TorchPolicy.save_model`."""
        self._trainer.save_model(folder, merge=merge)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote, exactly; the server gets it before the next sample."""
        self._outdated = True
        self._trainer.load(folder)

    def weights_sha256(self) -> str:
        """Hash base and adapters."""
        return self._trainer.weights_sha256()

    def describe(self) -> dict[str, Any]:
        """Return what a record must say about trainer and server."""
        verified = self._sync.verified
        return {
            **self._trainer.describe(),
            "sampler": {
                "base_url": self._settings.base_url,
                "flavour": self._settings.flavour,
                "served_model": self._settings.served_model or self._trainer.config.model,
                "logprobs": self.told,
                "version": self._sync.version,
                "probe_mean_difference": None if verified is None else verified.mean_difference,
                "repeats": "in distribution only",
            },
        }

    def _refresh(self) -> None:
        self._sync.push()
        self._outdated = False

    def _asked(
        self, prompt: Sequence[int], seed: int, max_tokens: int, temperature: float, top_p: float
    ) -> Asked:
        return Asked(
            prompt=prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop_ids=self._trainer.stop_ids,
        )

    def _with_trainers(self, completions: Completions) -> Completions:
        """Put the trainer's own pi beside a q that is not pi.

        The ratio gate then compares the trainer with itself; that the server has its weights is
        what the probe of every version shows.
        """
        return Completions(
            prompts=completions.prompts,
            group_size=completions.group_size,
            tokens_NT=completions.tokens_NT,
            lengths_N=completions.lengths_N,
            finished_N=completions.finished_N,
            sampler_logprobs_NT=completions.sampler_logprobs_NT,
            policy_logprobs_NT=self._trainer.score(completions).logprobs_NT,
        )

    def _check_told(self, temperature: float, top_p: float) -> None:
        if temperature == 0 or (temperature == 1 and top_p == 1):
            return
        if top_p < 1 and self._settings.flavour == "sglang":
            raise ConfigError(
                f"top_p = {top_p:g} with an SGLang server, whose log-probabilities leave the cut "
                "out: the sampler's own probabilities are not known. Use top_p = 1"
            )
        if self.told == "raw":
            raise ConfigError(
                f"temperature = {temperature:g}, top_p = {top_p:g}: {self._settings.base_url} "
                "tells log-probabilities at temperature 1 and not those it draws from. Start vLLM "
                "with --logprobs-mode processed_logprobs, or use temperature = 1 and top_p = 1"
            )


def load_openai_policy(
    config: PolicyConfig, *, device: str, threads: int, seed: int
) -> OpenAIPolicy:
    """Load the trainer's model with its adapters, and reach the server.

    Raises:
        ConfigError, DataError, MissingExtraError: as `load_torch_policy` and `OpenAIPolicy`.
    """
    return OpenAIPolicy(load_torch_policy(config, device=device, threads=threads, seed=seed))
