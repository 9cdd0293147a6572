"""A language model as the student: the scores of its actions, computed once, softened on demand.

Knows which texts are scored, what a distribution depends on and how often it was needed. Refuses
to know environments, and how a model computes: that is `cupel.policy.actions`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cupel.config import fingerprint
from cupel.errors import ConfigError
from cupel.policy.build import need_torch
from cupel.policy.config import PolicyConfig
from cupel.policy.distribution_cache import DistributionCache, key_of
from cupel.teach.students.prompts import TEMPLATE_VERSION, completion_of
from cupel.teach.students.student import (
    ActionProbs,
    Query,
    Student,
    StudentConfig,
    UniformStudent,
    tempered,
)

if TYPE_CHECKING:
    from cupel.policy.actions import ActionRequest, LogScoresA
    from cupel.policy.torch_policy import TorchPolicy

MOST_KEPT = 1_000_000
"""Distributions a student keeps at hand; beyond, it forgets them all and asks the cache again."""


@dataclass(slots=True)
class Counters:
    """What a student was asked, over all its temperatures.

    Attributes:
        queries: distributions asked for.
        repeats: those that were at hand, also within one call.
        cache_hits: those whose scores lay in the cache.
        scored: prompts that the model ran; `tokens`: their tokens, actions included.
        unknown_tokens: tokens of those that are outside the vocabulary.
    """

    queries: int = 0
    repeats: int = 0
    cache_hits: int = 0
    scored: int = 0
    tokens: int = 0
    unknown_tokens: int = 0


class LanguageStudent:
    """pi(a | s) = softmax(log score / temperature) over the valid actions.

    Attributes:
        policy: the model; whoever trains it makes a new student afterwards.
        config: as asked for; `identity`: hash of weights, template, length and temperature.
        counters: shared with every student made by `with_temperature`.
    """

    def __init__(
        self, policy: TorchPolicy, config: StudentConfig, cache: DistributionCache
    ) -> None:
        """Take a loaded model.

        Raises:
            ConfigError: the model cannot score actions side by side.
        """
        from cupel.policy.actions import ActionScorer
        from cupel.policy.tokens import PieceTokenizer

        assert isinstance(policy.tokenizer, PieceTokenizer)
        self.policy, self.config, self.cache = policy, config, cache
        self.counters = Counters()
        described = policy.describe()
        self._basis = {
            "weights": described["weights_sha256"],
            "template": TEMPLATE_VERSION,
            "length": config.length,
        }
        self._space = fingerprint(
            self._basis
            | {name: described[name] for name in _ARITHMETIC}
            | {"device": policy.lm.device.type}
        )
        self._scorer = ActionScorer(policy.lm, policy.tokenizer, length=config.length)
        self._at_hand: dict[bytes, ActionProbs] = {}
        self.identity = fingerprint(self._basis | {"temperature": config.temperature})

    def with_temperature(self, temperature: float) -> LanguageStudent:
        """Return a student of another temperature that shares this one's scores."""
        twin = copy.copy(self)
        twin.config = self.config.model_copy(update={"temperature": temperature})
        twin.identity = fingerprint(self._basis | {"temperature": temperature})
        twin._at_hand = {}
        return twin

    def distributions(self, queries: Sequence[Query]) -> list[ActionProbs]:
        """Return one read-only distribution a query; equal queries get equal bits.

        Raises:
            DataError: a query has no actions, its prompt is longer than the model reads, or the
                cache is damaged.
        """
        keys = [self._key(query) for query in queries]
        asked = dict(zip(keys, queries, strict=True))
        new = [key for key in asked if key not in self._at_hand]
        known = {key: self._at_hand[key] for key in asked if key in self._at_hand}
        for key, scores in self._scores({key: asked[key] for key in new}).items():
            known[key] = tempered(scores, self.config.temperature)
            known[key].setflags(write=False)
        if len(self._at_hand) + len(new) > MOST_KEPT:
            self._at_hand.clear()
        self._at_hand.update({key: known[key] for key in new})
        self.counters.queries += len(queries)
        self.counters.repeats += len(queries) - len(new)
        return [known[key] for key in keys]

    def log_scores(self, queries: Sequence[Query]) -> list[LogScoresA]:
        """Return one array of log scores a query, before temperature and softmax.

        Raises:
            DataError: as `distributions`.
        """
        keys = [self._key(query) for query in queries]
        scores = self._scores(dict(zip(keys, queries, strict=True)))
        return [scores[key] for key in keys]

    def _key(self, query: Query) -> bytes:
        return key_of(self._space, query.prompt, query.actions)

    def _scores(self, asked: dict[bytes, Query]) -> dict[bytes, LogScoresA]:
        """Return the scores of distinct queries; what is new is computed in the keys' order."""
        order = sorted(asked)
        stored = zip(order, self.cache.get_many(order), strict=True)
        found = {key: scores for key, scores in stored if scores is not None}
        missing = [key for key in order if key not in found]
        self.counters.cache_hits += len(found)
        for start in range(0, len(missing), _PUT_AT_ONCE):
            some = missing[start : start + _PUT_AT_ONCE]
            computed = self._scorer.log_scores([_request(asked[key]) for key in some])
            made = dict(zip(some, computed, strict=True))
            self.cache.put_many(made)
            found.update(made)
        self.counters.scored = self._scorer.scored
        self.counters.tokens = self._scorer.tokens
        self.counters.unknown_tokens = self._scorer.unknown_tokens
        return found


_ARITHMETIC = ("dtype", "attention", "matmul_precision", "threads", "torch", "cpu_capability")
"""What a policy says of itself that may change the last bits of a score."""
_PUT_AT_ONCE = 1024


def build_student(
    config: StudentConfig, *, device: str, threads: int, cache: Path | None
) -> Student:
    """Build the student that a config names.

    Args:
        cache: file of scores, shared by whoever names it; None keeps them in memory.

    Raises:
        ConfigError: settings that contradict each other, an unknown device, or a model that
            cannot be scored.
        DataError: the model or the cache cannot be read.
        MissingExtraError: a model is asked for and torch or transformers is not installed.
    """
    if config.backend == "uniform":
        if config.model is not None:
            raise ConfigError(
                f"student.backend 'uniform' has no model; given student.model '{config.model}'"
            )
        return UniformStudent()
    if config.backend == "torch" and config.model is None:
        raise ConfigError("student.backend 'torch' needs student.model: a folder or a hub id")
    need_torch(f"student.backend '{config.backend}'")
    from cupel.policy.built import SHOP
    from cupel.policy.load import load_torch_policy

    model = str(SHOP) if config.model is None else config.model
    settings = PolicyConfig(backend=config.backend, model=model, dtype=config.dtype)
    policy = load_torch_policy(settings, device=device, threads=threads)
    return LanguageStudent(policy, config, DistributionCache(cache))


def _request(query: Query) -> ActionRequest:
    from cupel.policy.actions import ActionRequest

    return ActionRequest(
        prompt=query.prompt, completions=tuple(completion_of(action) for action in query.actions)
    )
