"""Weights on their way to a sampling server: versioned adapters, and the proof that they arrived.

Knows folders, names and one fixed text whose log-probabilities trainer and server must agree on.
Refuses stale weights: a server that answers as it did before an update, or as another model. The
name of a version is never used twice, so that no cache of an older one can be taken for it.
"""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cupel.errors import ConfigError, InfrastructureFailure
from cupel.policy.config import OpenAISettings
from cupel.policy.openai.server import Server
from cupel.policy.openai.wire import Dialect, checked_logprobs

Float = NDArray[np.float64]

PROBE_TEXT = (
    "Ann has 3 boxes with 4 pens each and gives away 5 pens. First, 3 * 4 = 12. Then 12 - 5 = 7. "
    "Wait, let me check: 7 + 5 = 12, so the answer is 7."
)
"""Scored on both sides after every change of weights."""

PARTING_S = 5.0
"""How long a server may take to forget a run's last adapter."""

RESOLUTION = 1e-4
"""Nats; moves smaller than this are not looked for, whatever the precision."""

LEAST_FOLLOWED = 0.5
"""Share of the trainer's move that the server must have made; a stale one has made none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Log-probabilities of the fixed text's K tokens, by the trainer and by the server."""

    trainer_K: Float
    server_K: Float

    @property
    def differences_K(self) -> Float:
        """Server minus trainer."""
        return self.server_K - self.trainer_K


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What is known of a version on the server.

    Attributes:
        mean_difference, largest_difference: |server - trainer| over the probe's tokens, in nats.
        followed: share of the trainer's move since the last version that could be told apart
            which the server made too, 1 when all is well; None: the move is still too small.
    """

    version: str
    mean_difference: float
    largest_difference: float
    followed: float | None


def followed_share(anchor: Probe, now: Probe) -> float | None:
    """Project the server's move since `anchor` on the trainer's; 1: the same, 0: it stayed.

    None while the trainer's move is no larger (root mean square) than what the two disagreed by
    at the anchor, which is all that their different arithmetic lets one see.
    """
    move_K, theirs_K = now.trainer_K - anchor.trainer_K, now.server_K - anchor.server_K
    noise = max(float(np.sqrt(np.mean(anchor.differences_K**2))), RESOLUTION)
    if float(np.sqrt(np.mean(move_K**2))) <= noise:
        return None
    return float(move_K @ theirs_K / (move_K @ move_K))


class AdapterSync:
    """The versions of one run."""

    def __init__(
        self,
        settings: OpenAISettings,
        server: Server,
        dialect: Dialect,
        *,
        save: Callable[[Path], None],
        probe_ids: Sequence[int],
        score_probe: Callable[[], Float],
    ) -> None:
        """Make the run's own folder; nothing is loaded yet.

        Args:
            save: writes the adapters into an empty folder.
            score_probe: the trainer's log-probabilities of the probe's ids but the first.

        Raises:
            ConfigError: the folder cannot be written.
        """
        self._settings, self._server, self._dialect = settings, server, dialect
        self._save, self._probe_ids, self._score_probe = save, list(probe_ids), score_probe
        self._name = f"cupel-{uuid.uuid4().hex[:12]}"
        home = Path(settings.adapter_dir or ".").expanduser().resolve()
        self.folder = home / self._name
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(
                f"policy.openai.adapter_dir = {home}: cannot be written ({error.strerror})"
            ) from None
        self._count = 0
        self._anchor: Probe | None = None
        self.version: str | None = None
        """Name of the version on the server."""
        self.verified: Verified | None = None

    def push(self) -> Verified:
        """Save the trainer's adapters, load them on the server, prove it, drop the version before.

        Raises:
            InfrastructureFailure: the server did not load them, or answers by other weights.
        """
        version, before = f"{self._name}-{self._count}", self.version
        self._count += 1
        folder = self.folder / version
        folder.mkdir()
        self._save(folder)
        self._load(version)
        self.version = version
        self.verified = self._verify(version)
        if before is not None:
            self._server.call(*self._dialect.unloading(before))
            shutil.rmtree(self.folder / before)
        return self.verified

    def close(self) -> None:
        """Forget the last version, on the server where it still answers, and on the disk."""
        if self.version is not None:
            with suppress(InfrastructureFailure):  # at a run's end nothing waits for the server
                self._server.call(*self._dialect.unloading(self.version), once_s=PARTING_S)
            self.version = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def _load(self, version: str) -> None:
        home = self._settings.adapter_dir_on_server
        seen = self.folder if home is None else Path(home) / self._name
        try:
            self._server.call(*self._dialect.loading(version, str(seen / version)))
        except InfrastructureFailure as error:
            raise InfrastructureFailure(
                f"adapter {version} cannot be loaded: {error}. The server must see {seen} "
                "(policy.openai.adapter_dir, adapter_dir_on_server) and allow it: vLLM with "
                "--enable-lora, --max-lora-rank and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; SGLang "
                "with --enable-lora, --max-lora-rank and --lora-target-modules"
            ) from None

    def _verify(self, version: str) -> Verified:
        path, body = self._dialect.probing(version, self._probe_ids)
        told = self._dialect.read_probe(self._server.call(path, body), self._probe_ids)
        server_K = np.array(checked_logprobs(told, what="the probe"))
        now = Probe(trainer_K=self._score_probe(), server_K=server_K)
        anchor, off_K = self._anchor, np.abs(now.differences_K)
        found = Verified(
            version=version,
            mean_difference=float(off_K.mean()),
            largest_difference=float(off_K.max()),
            followed=None if anchor is None else followed_share(anchor, now),
        )
        self._refuse_stale(found)
        if anchor is None or found.followed is not None:
            self._anchor = now
        return found

    def _refuse_stale(self, found: Verified) -> None:
        allowed = self._settings.probe_tolerance
        told = (
            f"adapter {found.version}: the server's log-probabilities of a fixed text differ from "
            f"the trainer's by {found.mean_difference:.3g} nats on average (allowed: {allowed:g}), "
            f"at most {found.largest_difference:.3g}"
        )
        stayed = found.followed is not None and found.followed < LEAST_FOLLOWED
        if stayed:
            raise InfrastructureFailure(
                f"{told}; it has made {found.followed:.2f} of the trainer's move: its weights are "
                "stale. Restart the server and resume the run"
            )
        if not (math.isfinite(found.mean_difference) and found.mean_difference <= allowed):
            raise InfrastructureFailure(
                f"{told}: its weights are stale, or its base model or precision is another. Serve "
                "the trainer's model; policy.openai.probe_tolerance allows more"
            )
