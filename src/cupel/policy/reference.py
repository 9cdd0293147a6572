"""The policy a run started from, still able to score, and what that costs.

Three ways: new adapters are switched off, continued ones are swapped for those they began as, and
a fully trained model has a frozen copy, loaded at the first question. Refuses a start that changed
between the parts of a resumed run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupel.errors import DataError
from cupel.policy.config import PolicyConfig
from cupel.policy.lora import switched_off
from cupel.policy.model_files import Adapters
from cupel.policy.protocol import Completions, Scores
from cupel.policy.scoring import Scorer, scorer_of
from cupel.policy.torch_state import weights_sha256

Bool = NDArray[np.bool_]


class Reference(Protocol):
    """What can score completions as the run's start would."""

    sha256: str | None
    """Hash by which a resumed run knows the start again; None where it is known otherwise, or not
    loaded yet."""

    def expect(self, sha256: str) -> None:
        """Take the hash that a checkpoint holds.

        Raises:
            DataError: the start is another one.
        """
        ...

    def score_into(self, scores: Scores, completions: Completions, chosen_N: Bool) -> None:
        """Write the chosen rows' scores at T = 1, without gradient."""
        ...

    def describe(self) -> dict[str, Any]:
        """Say what it is and what it holds in memory."""
        ...


class AdaptersOff:
    """The base model under new adapters: no second model, no memory."""

    sha256: str | None = None

    def __init__(self, scorer: Scorer, handle: Any) -> None:
        self._scorer, self._handle = scorer, handle

    def expect(self, sha256: str) -> None:
        """Take no hash: checkpoints hold the base's, and are refused on another."""
        raise DataError(
            f"reference: the checkpoint began from other adapters (sha256 {sha256[:16]}), this run "
            "from new ones; give back the adapter folder it began with"
        )

    def score_into(self, scores: Scores, completions: Completions, chosen_N: Bool) -> None:
        """Score as the base model."""
        with switched_off(self._handle):
            self._scorer.score_into(scores, completions, chosen_N)

    def describe(self) -> dict[str, Any]:
        """Say that it costs no memory."""
        return {"kind": "adapters off", "memory_bytes": 0}


class StartAdapters:
    """Adapters as they were when this run took them up, swapped in for a moment."""

    def __init__(self, scorer: Scorer, trained: Mapping[str, Tensor], *, sha256: str) -> None:
        self._scorer, self._trained = scorer, dict(trained)
        self._start = {name: value.detach().clone() for name, value in trained.items()}
        self.sha256: str | None = sha256

    def expect(self, sha256: str) -> None:
        """Compare with the hash that a checkpoint holds."""
        _same(sha256, str(self.sha256))

    def score_into(self, scores: Scores, completions: Completions, chosen_N: Bool) -> None:
        """Score as the start; the trained adapters come back bit for bit."""
        now = {name: value.detach().clone() for name, value in self._trained.items()}
        self._put(self._start)
        try:
            self._scorer.score_into(scores, completions, chosen_N)
        finally:
            self._put(now)

    def describe(self) -> dict[str, Any]:
        """Say that it holds the adapters once more."""
        held = sum(value.numel() * value.element_size() for value in self._start.values())
        return {"kind": "adapters of the start", "memory_bytes": held}

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(values[name])


class FrozenCopy:
    """The start's weights once more, loaded at the first question and never trained."""

    def __init__(self, load: Callable[[], Scorer], *, memory_bytes: int) -> None:
        self._load, self.memory_bytes = load, memory_bytes
        self.place: Callable[[Scorer], None] | None = None
        """Lays the loaded copy out over processes."""
        self._scorer: Scorer | None = None
        self._expected: str | None = None
        self.sha256: str | None = None

    def expect(self, sha256: str) -> None:
        """Keep the hash that a checkpoint holds for the moment the copy is loaded."""
        self._expected = self.sha256 = sha256

    def score_into(self, scores: Scores, completions: Completions, chosen_N: Bool) -> None:
        """Score as the start.

        Raises:
            DataError: the start's folder holds other weights than when the run began.
        """
        if self._scorer is None:
            scorer = self._load()
            scorer.lm.model.requires_grad_(False)
            self.sha256 = weights_sha256(scorer.lm.model)
            if self._expected is not None:
                _same(self._expected, self.sha256)
            if self.place is not None:
                self.place(scorer)
            self._scorer = scorer
        self._scorer.score_into(scores, completions, chosen_N)

    def describe(self) -> dict[str, Any]:
        """Say how much memory the copy takes once something asks for it."""
        return {"kind": "frozen copy, loaded when first asked", "memory_bytes": self.memory_bytes}


def reference_of(
    scorer: Scorer,
    trained: Mapping[str, Tensor],
    config: PolicyConfig,
    adapters: Adapters | None,
    load_start: Callable[[], Any] | None,
    sha256: Callable[[], str],
) -> Reference | None:
    """Return how the start of a run goes on scoring; None where nothing can load it again."""
    if adapters is not None and adapters.continued:
        return StartAdapters(scorer, trained, sha256=sha256())
    if adapters is not None:
        return AdaptersOff(scorer, adapters.handle)
    if load_start is None:
        return None

    def load() -> Scorer:
        return scorer_of(load_start(), config, trained=False)

    held = sum(p.numel() * p.element_size() for p in scorer.lm.model.parameters())
    return FrozenCopy(load, memory_bytes=held)


def _same(expected: str, found: str) -> None:
    if expected != found:
        raise DataError(
            f"reference: the model this run started from has changed (sha256 {found[:16]}, "
            f"{expected[:16]} before); give back the folder it was"
        )
