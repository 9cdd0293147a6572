"""Labellings of the corridor in this process: moments, runs and what they left on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cupel.config import validate
from cupel.lab import Recorder, RunContext, RunFolder, execute_run, load_recipe, plan_run
from cupel.lab.checkpoint import Checkpoints
from cupel.lab.files import read_json, read_json_lines
from cupel.lab.randomness import Randomness
from cupel.lab.recipe import Result
from cupel.teach.environments.base import EnvironmentConfig, make_environment, restore, state_hash
from cupel.teach.labelling.config import LabelConfig
from cupel.teach.labelling.files import LINES, read_labels
from cupel.teach.labelling.labels import LabelledMoment
from cupel.teach.labelling.recipe import LabelRecipe, label
from cupel.teach.records import Moment, to_row
from cupel.teach.students.student import Student
from tests.teach.teach_students import snapshots_of

CORRIDOR = EnvironmentConfig(name="corridor", max_steps=8)
UNIFORM: dict[str, Any] = {
    "environment": {"name": "corridor", "max_steps": 8},
    "student": {"backend": "uniform"},
    "quadrants": {"min_per_quadrant": 2},
}


def corridor_moments(seeds: range = range(24), *, walks: int = 2, steps: int = 3) -> list[Moment]:
    """Moments after random walks in the corridor, the pit included."""
    environment = make_environment(CORRIDOR)
    moments = []
    for snapshot in snapshots_of(CORRIDOR, seeds=list(seeds), walks=walks, steps=steps):
        restore(snapshot, environment)
        actions = environment.valid_actions()
        moment = Moment(
            snapshot=snapshot, task=environment.task(), observation=environment.observe(),
            valid_actions=actions, step_idx=len(snapshot.actions),
            trajectory_id=f"{snapshot.task_id}-{len(moments)}", outcome="failure",
            student_action=actions[-1], student_probs=None, failure_type="wrong_action",
            anchor_step=len(snapshot.actions), anchor_rule="sampled", offset=0,
            key_hash=state_hash(environment),
        )  # fmt: skip
        moments.append(moment)
    return moments


def write_moments(path: Path, moments: list[Moment]) -> Path:
    path.write_text("".join(json.dumps(to_row(moment)) + "\n" for moment in moments))
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What a labelling left."""

    folder: Path
    values: dict[str, Any]

    @property
    def rows(self) -> tuple[LabelledMoment, ...]:
        return read_labels(self.folder / LINES)

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        return read_json_lines(self.folder / "outcomes.jsonl")

    @property
    def metadata(self) -> dict[str, Any]:
        return read_json(self.folder / "labeling_metadata.json")

    def gate(self, name: str) -> dict[str, Any]:
        (found,) = [gate for gate in self.metadata["gates"] if gate["gate"] == name]
        return dict(found)


def run_labels(folder: Path, snapshots: Path, *, seed: int = 3, **changes: Any) -> Labelled:
    """Plan and execute a labelling by the uniform student; it must succeed."""
    recipe = load_recipe("teach.label")
    passed = {**UNIFORM, "snapshots": str(snapshots), **changes}
    spec = plan_run(recipe, "teach.label", passed=passed, seed=seed, condition="label")
    RunFolder(folder).create(spec)
    status = execute_run(folder, fsync=False)
    assert status == "done", RunFolder(folder).state()["failure"]
    return Labelled(folder=folder, values=read_json(folder / "result.json")["values"])


def label_with(
    student: Student, folder: Path, snapshots: Path, *, seed: int = 3, **changes: Any
) -> Labelled:
    """Label with a student of the test's own, outside of any run."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {**UNIFORM, "snapshots": str(snapshots), **changes}
    config = validate(LabelConfig, data, where="here")
    context = label_context(folder, seed=seed)
    with context.recorder:
        result: Result = label(config, context, student)
    return Labelled(folder=folder, values=dict(result.values))


def label_context(folder: Path, *, seed: int) -> RunContext:
    recorder = Recorder(folder, LabelRecipe.streams)
    checkpoints = Checkpoints(folder / "checkpoints", fsync=False)
    checkpoints.follow(recorder.offsets)
    return RunContext(
        folder=folder, condition="label", seed=seed, randomness=Randomness(seed),
        recorder=recorder, checkpoints=checkpoints, resume=None,
    )  # fmt: skip


def resumed(context: RunContext) -> RunContext:
    """Return the context of a second start in the same folder."""
    found = context.checkpoints.latest()
    assert found is not None
    recorder = Recorder(context.folder, LabelRecipe.streams, offsets=found.offsets)
    context.checkpoints.follow(recorder.offsets)
    return replace(context, recorder=recorder, resume=found)
