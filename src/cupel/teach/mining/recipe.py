"""Phase 0, `teach.mine`: from episodes to the states worth labelling.

Knows anchors, the ladder of steps before them, duplicates and caps; or, for expert episodes, a
sample of all decision points. Refuses a state that it cannot get back to, and to return nothing
without saying why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, model_validator

from cupel.config import Config
from cupel.errors import DataError
from cupel.lab.files import read_json_lines, write_atomically, write_json
from cupel.lab.metrics import Metric, Scalar
from cupel.lab.randomness import Randomness
from cupel.lab.recipe import Forecast, Result, RunContext
from cupel.teach.environments.base import (
    Environment,
    make_environment,
)
from cupel.teach.mining.anchors import AnchorMethod
from cupel.teach.mining.caps import Selection, select
from cupel.teach.mining.moments import mine_episode, place_of, sample_episode
from cupel.teach.records import Episode, Moment, moment_of, to_row
from cupel.teach.rollouts.episodes import student_of
from cupel.teach.rollouts.files import (
    SNAPSHOTS,
    read_episodes,
    recorded_max_steps,
    write_moments,
)
from cupel.teach.students.student import Student, StudentConfig

CANDIDATES = "candidates.jsonl"
OFFSETS = (0, 1, 2, 3, 5, 8)
"""How many steps before its anchor a failure is looked at: depth needs more than one."""
DEFAULT_MAX_STEPS = 15


class MineConfig(Config):
    """Which states are taken from which episodes."""

    rollouts: Annotated[list[str], Field(min_length=1)]
    """Rollouts run folders, their episodes.jsonl, or exported rollouts.json."""
    source: Literal["failures", "sampled"] = "failures"
    """failures: a ladder of states before each failure; sampled: each decision point with
    probability `sample_rate`, for expert episodes (experiment B)."""
    offsets: Annotated[list[int], Field(min_length=1)] = Field(
        default_factory=lambda: list(OFFSETS)
    )
    """Steps before the anchor at which states are taken; one that would lie before the episode's
    first state takes that. Negative: after it, where success is lost already (a lost cause)."""
    anchor: AnchorMethod = "auto"
    """How a failure is located. optimal: last step with success within reach; expert: the same by
    what the expert achieves; rules: loop, timeout, least confidence; auto: the first that knows;
    student_value: the largest drop of `student`'s own exact success probability."""
    student: StudentConfig | None = None
    """Whose values `anchor = "student_value"` goes by."""
    max_snapshots: Annotated[int, Field(ge=1)] = 2000
    """Most snapshots; anchors go before the states further back."""
    max_per_task: Annotated[int, Field(ge=1)] | None = 12
    """Most snapshots of one task; None: no limit."""
    max_per_type: Annotated[int, Field(ge=1)] | None = None
    """Most snapshots of one failure type; None: no limit."""
    include_successes: bool = False
    """Also take states before the least confident step of successful episodes."""
    sample_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Probability that a decision point is taken (source sampled)."""
    require_env_state: bool = False
    """Drop episodes whose states cannot be restored, and count them; else they are refused."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps the episodes could take; None: as the rollouts recorded it, or 15."""
    block: Annotated[int, Field(ge=1)] = 64
    """Episodes that are saved together; changes no snapshot."""

    @model_validator(mode="after")
    def _consistent(self) -> MineConfig:
        if (self.anchor == "student_value") != (self.student is not None):
            raise ValueError("anchor = 'student_value' and student belong together; set both")
        return self


METRICS: tuple[Metric, ...] = (
    Metric(name="step", meaning="Number of the block of episodes.", unit="count"),
    Metric(name="episodes", meaning="Episodes looked at.", unit="count"),
    Metric(name="used", meaning="Those that states were taken from.", unit="count"),
    Metric(name="candidates", meaning="States taken, duplicates included.", unit="count"),
    Metric(name="unrestorable", meaning="Episodes that do not replay.", unit="count"),
)


class MineRecipe:
    """`teach.mine`: states worth labelling."""

    name = "teach.mine"
    config_type = MineConfig
    streams: Mapping[str, Sequence[Metric] | None] = {"metrics.jsonl": METRICS, CANDIDATES: None}
    preload = ("cupel.teach.mining.recipe",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change nothing: no default depends on another setting."""
        return data

    def forecast(self, config: MineConfig) -> Forecast:
        """Say what is known before the episodes are read."""
        return Forecast(costs={"snapshots": config.max_snapshots})

    def run(self, config: MineConfig, context: RunContext) -> Result:
        """Take candidates block by block, then select."""
        return run(config, context)


RECIPE = MineRecipe()


def run(config: MineConfig, context: RunContext) -> Result:
    """Mine the blocks that are missing, select, write the snapshots.

    Raises:
        DataError: the episodes cannot be read or replayed, or nothing is left to label.
    """
    episodes, max_steps = _episodes(config)
    environments = Environments()
    student = None
    if config.student is not None:
        slot = context.slot
        student = student_of(config.student, device=slot.device, threads=slot.threads)
    starts = range(0, len(episodes), config.block)
    done = 0 if context.resume is None else int(context.resume.state["done"])
    dropped = 0 if context.resume is None else int(context.resume.state["dropped"])
    for number, at in list(enumerate(starts))[done:]:
        block = episodes[at : at + config.block]
        taken = [
            _mine(episode, environments, config, max_steps, context.randomness, student)
            for episode in block
        ]
        missing = sum(moments is None for moments in taken)
        found = [moment for moments in taken if moments for moment in moments]
        dropped += missing
        context.recorder.log_many(CANDIDATES, [to_row(moment) for moment in found])
        row: dict[str, Scalar] = {
            "step": number,
            "episodes": len(block),
            "used": sum(bool(moments) for moments in taken),
            "candidates": len(found),
            "unrestorable": missing,
        }
        context.recorder.log("metrics.jsonl", row)
        state = {"done": number + 1, "dropped": dropped}
        context.checkpoints.save(number + 1, lambda folder: None, state)
    candidates = [moment_of(row) for row in read_json_lines(context.folder / CANDIDATES)]
    selection = select(
        candidates,
        max_snapshots=config.max_snapshots,
        max_per_task=config.max_per_task,
        max_per_type=config.max_per_type,
    )
    counts = {**_counts_of(episodes), "unrestorable": dropped, **selection.dropped}
    if not selection.moments:
        raise DataError(_why_empty(config, counts))
    return _write(selection, counts, config, context)


class Environments:
    """One environment of each kind met in the episodes."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Environment] = {}

    def of(self, episode: Episode) -> Environment:
        kind = (episode.environment, episode.level)
        if kind not in self._made:
            self._made[kind] = make_environment(place_of(episode))
        made = self._made[kind]
        if made.version != episode.version:
            raise DataError(
                f"episode {episode.id}: made in {episode.environment} version "
                f"{episode.version}; this is {made.version}. Run the rollouts again"
            )
        return made


def _mine(
    episode: Episode,
    environments: Environments,
    config: MineConfig,
    max_steps: int,
    randomness: Randomness,
    student: Student | None,
) -> list[Moment] | None:
    """Return an episode's moments; None where it cannot be restored and that is to be counted."""
    try:
        environment = environments.of(episode)
        if config.source == "sampled":
            return sample_episode(
                episode, environment, rate=config.sample_rate, randomness=randomness
            )
        return mine_episode(
            episode,
            environment,
            max_steps=max_steps,
            offsets=config.offsets,
            method=config.anchor,
            include_successes=config.include_successes,
            student=student,
        )
    except DataError:
        if not config.require_env_state:
            raise
        return None


def _episodes(config: MineConfig) -> tuple[list[Episode], int]:
    """Read all sources; their episodes must be distinct and of one step limit."""
    episodes: list[Episode] = []
    limits: set[int] = set()
    for source in config.rollouts:
        path = Path(source)
        episodes.extend(read_episodes(path))
        limit = recorded_max_steps(path)
        limits |= {limit} if limit is not None else set()
    twice = [name for name, count in Counter(e.id for e in episodes).items() if count > 1]
    if twice:
        raise DataError(
            f"{', '.join(config.rollouts)}: episode {twice[0]} is there twice; name each file "
            "once, and give runs of the same tasks other replicates or other folders"
        )
    if config.max_steps is not None:
        return episodes, config.max_steps
    if len(limits) > 1:
        raise DataError(
            f"{', '.join(config.rollouts)}: recorded with max_steps {sorted(limits)}; "
            "mine them apart, or set max_steps"
        )
    return episodes, next(iter(limits), DEFAULT_MAX_STEPS)


def _counts_of(episodes: Iterable[Episode]) -> dict[str, int]:
    counts = {"n_rollouts": 0, "n_successes": 0, "n_failures": 0, "n_errors": 0}
    for episode in episodes:
        counts["n_rollouts"] += 1
        error = episode.stop_reason == "error"
        kind = "errors" if error else "successes" if episode.success else "failures"
        counts[f"n_{kind}"] += 1
    return counts


def _why_empty(config: MineConfig, counts: Mapping[str, int]) -> str:
    told = ", ".join(f"{name.removeprefix('n_')} {count}" for name, count in counts.items())
    if config.source == "sampled":
        mend = "raise sample_rate, or collect more expert trajectories"
    elif counts["n_failures"] == 0:
        mend = "there is no failure to mine: run more or harder tasks, or set include_successes"
    else:
        mend = "run more rollouts, or raise the caps"
    return f"{', '.join(config.rollouts)}: no snapshot to label ({told}); {mend}"


def _write(
    selection: Selection, counts: Mapping[str, int], config: MineConfig, context: RunContext
) -> Result:
    moments = selection.moments
    write_atomically(
        context.folder / SNAPSHOTS,
        b"".join(orjson.dumps(to_row(moment)) + b"\n" for moment in moments),
    )
    write_moments(context.folder / export_name(config), moments)
    groups: dict[str, Counter[str]] = {
        "splits": Counter(moment.split for moment in moments),
        "anchor_rules": Counter(moment.anchor_rule for moment in moments),
        "failure_types": Counter(moment.failure_type for moment in moments),
        "offsets": Counter(str(moment.offset) for moment in moments),
    }
    numbers: dict[str, int] = {
        **counts,
        "n_snapshots": len(moments),
        "n_tasks": len({moment.task_id for moment in moments}),
    }
    tables = {name: dict(sorted(group.items())) for name, group in groups.items()}
    write_json(context.folder / "mining.json", {**numbers, **tables})
    values: dict[str, Scalar] = dict(numbers)
    for name, table in tables.items():
        values.update({f"{name}_{key}": n for key, n in table.items()})
    return Result(values=values)


def export_name(config: MineConfig) -> str:
    """Return the name of the exported list."""
    return "snapshots_expert.json" if config.source == "sampled" else "failure_snapshots.json"
