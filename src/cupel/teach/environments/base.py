"""What an environment is here: text in, text out, exact to restore, cheap to copy.

Knows the protocol, snapshots and the table of names. Refuses to know any one environment's rules,
and to keep a clock: how many steps a branch may take is the caller's business, so equal states
have equal keys whenever they were reached.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from cupel.config import Config, fingerprint
from cupel.errors import ConfigError, DataError

EnvironmentName = Literal["shop", "babyai", "textworld", "webshop", "corridor"]

MODULES: Mapping[str, str] = {
    "shop": "cupel.teach.environments.shop",
    "babyai": "cupel.teach.environments.babyai",
    "textworld": "cupel.teach.environments.textworld",
    "webshop": "cupel.teach.environments.webshop",
    "corridor": "cupel.teach.environments.corridor",
}
"""Where each environment's `make(options)` is; imported only when it is named."""


class EnvironmentConfig(Config):
    """Which environment, and how hard."""

    name: EnvironmentName = "shop"
    """shop: native and exact; babyai: MiniGrid's BabyAI levels; textworld: generated TextWorld
    games; webshop: WebShop, for those who have its data; corridor: seven cells, for checks."""
    level: str = ""
    """Variant of the environment, e.g. a BabyAI level; empty: the environment's default."""
    max_steps: int = 15
    """Steps an episode may take from the task's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one action brought.

    Attributes:
        reward: of this step; an episode's return is the sum.
        done: the episode is over by the environment's own rules.
        success: the task is accomplished; implies `done`.
    """

    reward: float
    done: bool
    success: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A state of an environment, as the way that leads there and the hash of what is found there.

    Attributes:
        environment, level, version: which environment; another version may lead elsewhere.
        seed: the task.
        actions: every action since the reset, in order.
        state_hash: 32 hex digits over key, observation and valid actions.
    """

    environment: str
    level: str
    version: str
    seed: int
    actions: tuple[str, ...]
    state_hash: str

    @property
    def id(self) -> str:
        """16 hex digits over environment, version, seed and actions."""
        way = [self.environment, self.level, self.version, self.seed, list(self.actions)]
        return fingerprint(way)

    @property
    def task_id(self) -> str:
        """Name of the task, e.g. `shop-000042`."""
        return task_id(self.environment, self.level, self.seed)


class Environment(Protocol):
    """A task that is acted in by text. All methods but `step` and `reset` leave it unchanged.

    `observe`, `valid_actions` and what `step` does are functions of `key()` where there is one.

    Attributes:
        name, level, version: as in `Snapshot`.
        seed: the task, after `reset`.
    """

    name: str
    level: str
    version: str
    seed: int

    @property
    def actions(self) -> tuple[str, ...]:
        """What was done since the reset, in order."""
        ...

    def reset(self, seed: int) -> None:
        """Begin task `seed`."""
        ...

    def task(self) -> str:
        """Return the instruction: one line of text."""
        ...

    def observe(self) -> str:
        """Return what is seen now, without the instruction."""
        ...

    def valid_actions(self) -> tuple[str, ...]:
        """Return the actions that may be taken now, distinct, in a fixed order; () when over."""
        ...

    def step(self, action: str) -> Step:
        """Act.

        Raises:
            DataError: the action is not valid here, or the episode is over.
        """
        ...

    def key(self) -> Hashable | None:
        """Return the whole state, or None where it cannot be known; equal keys behave equally."""
        ...

    def copy(self) -> Self:
        """Return an independent environment in the same state."""
        ...

    def expert(self) -> str | None:
        """Return what the expert would do here; None where there is no expert (any more)."""
        ...

    def optimal_q(self, horizon: int) -> Mapping[str, float] | None:
        """Return for each valid action whether success stays within reach (1.0) in `horizon`
        steps, that action included, or not (0.0); None where it cannot be computed."""
        ...


def make_environment(config: EnvironmentConfig) -> Environment:
    """Make the environment that a config names; it must be reset before use.

    Raises:
        ConfigError: the level is unknown.
        MissingExtraError: the environment's package is not installed.
    """
    module = importlib.import_module(MODULES[config.name])
    made: Environment = module.make(config.level)
    return made


def task_id(environment: str, level: str, seed: int) -> str:
    """Return the name of a task, e.g. `shop-000042` or `babyai-GoToLocal-000042`."""
    return "-".join(part for part in (environment, level, f"{seed:06d}") if part)


def state_hash(environment: Environment) -> str:
    """Hash what is found here: key, instruction, observation and valid actions; 32 hex digits."""
    digest = hashlib.sha256()
    key = environment.key()
    parts: Sequence[Any] = (
        "" if key is None else repr(key),
        environment.task(),
        environment.observe(),
        *environment.valid_actions(),
    )
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def take_snapshot(environment: Environment) -> Snapshot:
    """Return the snapshot of the state that the environment is in."""
    return Snapshot(
        environment=environment.name,
        level=environment.level,
        version=environment.version,
        seed=environment.seed,
        actions=environment.actions,
        state_hash=state_hash(environment),
    )


def restore(snapshot: Snapshot, environment: Environment) -> None:
    """Bring an environment into a snapshot's state, by the way it was reached, and verify it.

    Raises:
        ConfigError: the snapshot is of another environment or version.
        DataError: the way leads elsewhere: the state does not have the snapshot's hash.
    """
    ours = (environment.name, environment.level, environment.version)
    theirs = (snapshot.environment, snapshot.level, snapshot.version)
    if ours != theirs:
        raise ConfigError(
            f"snapshot {snapshot.id}: taken in {' '.join(theirs)}; this is {' '.join(ours)}. "
            "Mine the snapshots again with this version"
        )
    environment.reset(snapshot.seed)
    for number, action in enumerate(snapshot.actions):
        try:
            environment.step(action)
        except DataError as error:
            raise DataError(f"snapshot {snapshot.id}: action {number}: {error}") from None
    found = state_hash(environment)
    if found != snapshot.state_hash:
        raise DataError(
            f"snapshot {snapshot.id} (task {snapshot.task_id}, {len(snapshot.actions)} actions): "
            f"restored to state {found}, not {snapshot.state_hash}; the environment is not the "
            "one it was taken in. Mine the snapshots again"
        )
