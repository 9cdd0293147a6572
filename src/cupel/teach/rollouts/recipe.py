"""Phase 0, `teach.rollouts`: somebody acts on tasks, and every step of every episode is kept.

Knows tasks by seed, blocks of them, and what is counted. Refuses to keep anything that depends on
the machine: episodes are a function of seed, actor and environment; they reach the disk block by
block, and rollouts.json is derived from them at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cupel.config import Config
from cupel.lab.metrics import Metric, Scalar
from cupel.lab.recipe import Forecast, Result, RunContext
from cupel.teach.branches.branching import uniforms_of
from cupel.teach.environments.base import EnvironmentConfig
from cupel.teach.records import Episode, to_row
from cupel.teach.rollouts.episodes import ExpertActor, run_episodes, student_of
from cupel.teach.rollouts.export import RolloutsHeader, write_rollouts
from cupel.teach.students.student import Student, StudentConfig

__all__ = ["RECIPE", "ExpertActor", "RolloutsConfig", "RolloutsRecipe", "run_episodes"]

EPISODES = "episodes.jsonl"
ROLLOUTS = "rollouts.json"


class RolloutsConfig(Config):
    """Who acts on which tasks."""

    environment: EnvironmentConfig = Field(default_factory=EnvironmentConfig)
    """Where the tasks live; its `max_steps` bounds every episode."""
    actor: Literal["student", "expert"] = "student"
    """student: the model acts; expert: the environment's own symbolic expert does."""
    student: StudentConfig = Field(default_factory=StudentConfig)
    """Which model acts; without effect for an expert."""
    flip_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that an expert's step takes another valid action instead; for ablations."""
    n_tasks: Annotated[int, Field(ge=1)] = 100
    """Number of tasks: the seeds from `first_task` on."""
    first_task: Annotated[int, Field(ge=0)] = 0
    """Seed of the first task."""
    task_ids: list[Annotated[int, Field(ge=0)]] | None = None
    """Seeds of the tasks, instead of a range."""
    replicates: Annotated[int, Field(ge=1)] = 1
    """Episodes of each task, each with random numbers of its own."""
    collect_all: bool = False
    """rollouts.json holds the states of successful episodes too; episodes.jsonl always does."""
    block: Annotated[int, Field(ge=1)] = 64
    """Tasks that advance together and are saved together; changes no episode."""

    @model_validator(mode="after")
    def _consistent(self) -> RolloutsConfig:
        if self.task_ids is not None and len(set(self.task_ids)) != len(self.task_ids):
            raise ValueError("task_ids: a task is named twice; use replicates for more episodes")
        if self.task_ids == []:
            raise ValueError("task_ids is empty; name tasks, or leave it out")
        if self.flip_rate and self.actor == "student":
            raise ValueError("flip_rate is the expert's; set actor = 'expert'")
        return self

    @property
    def seeds(self) -> list[int]:
        """The tasks, in order."""
        if self.task_ids is not None:
            return list(self.task_ids)
        return list(range(self.first_task, self.first_task + self.n_tasks))

    @property
    def blocks(self) -> list[list[int]]:
        """The tasks, as they are run."""
        seeds = self.seeds
        return [seeds[at : at + self.block] for at in range(0, len(seeds), self.block)]


METRICS: tuple[Metric, ...] = (
    Metric(name="step", meaning="Number of the block of tasks.", unit="count"),
    Metric(name="episodes", meaning="Episodes of the block.", unit="count"),
    Metric(name="successes", meaning="Those that ended in success.", unit="count"),
    Metric(name="errors", meaning="Those whose environment or expert broke down.", unit="count"),
    Metric(name="mean_steps", meaning="Mean steps of an episode.", unit="count"),
    Metric(
        name="success_rate",
        meaning="Successes over episodes without error.",
        unit="rate",
        higher_is_better=True,
    ),
)


class RolloutsRecipe:
    """`teach.rollouts`: episodes of a student or an expert."""

    name = "teach.rollouts"
    config_type = RolloutsConfig
    streams: Mapping[str, Sequence[Metric] | None] = {"metrics.jsonl": METRICS, EPISODES: None}
    preload = ("cupel.teach.rollouts.recipe",)

    def prepare(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change nothing: no default depends on another setting."""
        return data

    def forecast(self, config: RolloutsConfig) -> Forecast:
        """Bound the episodes and steps."""
        episodes = len(config.seeds) * config.replicates
        model = config.actor == "student" and config.student.backend != "uniform"
        return Forecast(
            costs={
                "steps": len(config.blocks),
                "episodes": episodes,
                "decisions": episodes * config.environment.max_steps,
            },
            preload=("torch",) if model else (),
        )

    def run(self, config: RolloutsConfig, context: RunContext) -> Result:
        """Run block by block, then derive rollouts.json."""
        return run(config, context)


RECIPE = RolloutsRecipe()


def run(config: RolloutsConfig, context: RunContext, student: Student | None = None) -> Result:
    """Run the blocks that are missing; write the episodes' export and return the statistics.

    Args:
        student: acts instead of the one that `config.student` names.
    """
    done = 0 if context.resume is None else int(context.resume.state["done"])
    actor = _actor(config, context, student) if done < len(config.blocks) else None
    for number, seeds in enumerate(config.blocks[done:], start=done):
        assert actor is not None
        episodes = run_episodes(
            config.environment,
            actor,
            seeds,
            uniforms=uniforms_of(context.randomness, "rollouts"),
            replicates=config.replicates,
        )
        context.recorder.log_many(EPISODES, [to_row(episode) for episode in episodes])
        context.recorder.log("metrics.jsonl", _metrics_row(number, episodes))
        context.checkpoints.save(number + 1, lambda folder: None, {"done": number + 1})
    header = RolloutsHeader(
        model_name=_model_name(config),
        environment=config.environment,
        n_tasks=len(config.seeds),
        seed=context.seed,
        collect_all=config.collect_all or config.actor == "expert",
    )
    target = context.folder / export_name(config, context.seed)
    statistics = write_rollouts(context.folder / EPISODES, target, header)
    return Result(values={"export": target.name, **_flat(statistics)})


def export_name(config: RolloutsConfig, seed: int) -> str:
    """Return the name of the derived file: rollouts.json, or all_trajectories_*.json."""
    if config.actor == "student":
        return ROLLOUTS
    place = "-".join(part for part in (config.environment.name, config.environment.level) if part)
    return f"all_trajectories_{place}_s{seed}.json"


def _actor(
    config: RolloutsConfig, context: RunContext, student: Student | None
) -> Student | ExpertActor:
    if config.actor == "expert":
        return ExpertActor(flip_rate=config.flip_rate)
    if student is not None:
        return student
    return student_of(config.student, device=context.slot.device, threads=context.slot.threads)


def _model_name(config: RolloutsConfig) -> str:
    if config.actor == "expert":
        return ExpertActor(flip_rate=config.flip_rate).identity
    return config.student.model or config.student.backend


def _metrics_row(number: int, episodes: Sequence[Episode]) -> dict[str, Scalar]:
    successes = sum(episode.success for episode in episodes)
    errors = sum(episode.stop_reason == "error" for episode in episodes)
    judged = len(episodes) - errors
    return {
        "step": number,
        "episodes": len(episodes),
        "successes": successes,
        "errors": errors,
        "mean_steps": sum(episode.n_steps for episode in episodes) / len(episodes),
        "success_rate": successes / judged if judged else None,
    }


def _flat(statistics: Mapping[str, Any]) -> dict[str, Scalar]:
    kinds = statistics["failure_type_breakdown"]
    flat = {
        name: value
        for name, value in statistics.items()
        if value is None or isinstance(value, int | float | str | bool)
    }
    return {**flat, **{f"failures_{kind}": count for kind, count in kinds.items()}}
