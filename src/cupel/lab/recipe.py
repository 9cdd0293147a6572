"""The waist between the lab and a domain: a recipe, the context it runs in, the result it returns.

All the lab knows about a domain is this file; all a domain knows about the lab is this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from cupel.config import Config
from cupel.lab.estimate import Measured, RunEstimate
from cupel.lab.metrics import Metric, Scalar
from cupel.lab.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from cupel.lab.checkpoint import Checkpoint, Checkpoints
    from cupel.lab.randomness import Randomness
    from cupel.lab.recorder import Recorder

ConfigT = TypeVar("ConfigT", bound=Config, contravariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The share of the machine one run may use."""

    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Everything a recipe is given besides its config.

    Attributes:
        folder: the run folder; write only through `recorder` and `checkpoints`.
        condition, seed: which cell of the study this is.
        randomness: named generators, all derived from `seed`.
        recorder: writes declared rows to the run's streams.
        checkpoints: saves atomically and gives back the latest.
        resume: the checkpoint to continue from, or None for a fresh start.
        slot: device and CPU threads this run may use.
        inputs: folders of the runs this one reads, by role.
        ranks: the processes that run this run together; one of them, as a rule.
    """

    folder: Path
    condition: str
    seed: int
    randomness: Randomness
    recorder: Recorder
    checkpoints: Checkpoints
    resume: Checkpoint | None
    slot: Slot = field(default_factory=Slot)
    inputs: Mapping[str, Path] = field(default_factory=dict)
    ranks: Ranks = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run returns: flat, finite, JSON-able numbers and words; None is missing."""

    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run would spend and what its config implies, told before anything runs.

    Attributes:
        costs: upper bounds per run by unit, e.g. `{"completions": 7680, "tokens": 491520}`;
            `steps` is the number of rows of metrics.jsonl, and drives the progress bars.
        notes: facts to print, e.g. `sepa_lambda reaches 1.00 at the last step`.
        warnings: what the user should reconsider.
        preload: modules that runs of this config import, e.g. `("torch",)`; the process executor
            imports them once, before it forks runs.
        depends_on: what a run depends on beside its config, such as hashes of its data and the
            versions of a service's client; manifest.json keeps it for each condition.
    """

    costs: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    preload: Sequence[str] = ()
    depends_on: Mapping[str, Any] = field(default_factory=dict)


class Recipe(Protocol[ConfigT]):
    """One kind of run: config and context in, result out.

    Attributes:
        name: registered name, e.g. `rlvr.train`.
        config_type: the config class the lab validates data against.
        streams: declared metrics by stream file, e.g. `{"metrics.jsonl": [...]}`;
            streams mapped to None hold free-form rows (one JSON object a line).
        preload: modules every run imports, whatever its config; see `Forecast.preload`.

    A recipe whose runs several processes can share also says `together = True`; it then shares
    what it resumes from, and does in every process what `RunContext.ranks` must agree on.
    """

    name: str
    config_type: type[Any]
    streams: Mapping[str, Sequence[Metric] | None]
    preload: Sequence[str]

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Lay the recipe's context-dependent defaults under the data the user passed."""
        ...

    def forecast(self, config: ConfigT) -> Forecast:
        """Say what a run would cost and imply; raise PlanError when it cannot run here."""
        ...

    def run(self, config: ConfigT, context: RunContext) -> Result:
        """Run to the end, resuming from `context.resume`, and return the result."""
        ...


@runtime_checkable
class Reaching(Protocol):
    """A recipe whose runs need something beyond this machine, which can be asked beforehand."""

    def reach(self, config: Any) -> None:
        """Find out whether a run of this config could begin; raise UsageError where it could not.

        It is asked before the first of a study's due runs starts, so that what one line would have
        said does not become a failed run.
        """
        ...


@runtime_checkable
class Probing(Protocol):
    """A recipe that can be probed: a few real steps tell what a whole run will take."""

    def probe(self, config: Any, context: RunContext) -> Iterator[Measured]:
        """Do a little of each thing that a run does, steps first, and yield how long it took.

        Whoever calls may stop at any time; at least one `step` must be among what is measured.
        """
        ...

    def estimate(self, config: Any, measured: Sequence[Measured]) -> RunEstimate:
        """Say what a run of this config takes, from a probe of it or of its like."""
        ...
