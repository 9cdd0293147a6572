"""Promises: the study's file is what the builder makes, the contrasts are declared, and an order is
called an order only when every step is resolved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cupel.config import load_toml, validate
from cupel.errors import ConfigError
from cupel.lab.store import RunRecord, StudyRecord
from cupel.lab.study import StudyConfig
from cupel.teach.selection.order import order_markdown, order_table
from cupel.teach.selection.study import LORA, OUTCOMES, SelectionSetup, selection_study
from cupel.teach.training.config import FinetuneConfig, with_student_defaults

ROOT = Path(__file__).parents[2]
DOCUMENTED = SelectionSetup(
    labels="results/phase1/labeled_snapshots.jsonl",
    predictor="results/phase4/predictor/model.pt",
)


def study(setup: SelectionSetup) -> StudyConfig:
    return validate(StudyConfig, selection_study(setup), where="test")


def test_the_shipped_study_is_what_the_builder_makes() -> None:
    shipped = load_toml(ROOT / "studies" / "teach_selection.toml")
    assert validate(StudyConfig, shipped, where="file") == study(DOCUMENTED)


def test_the_primary_contrast_is_predictor_against_random_and_neighbours_are_secondary() -> None:
    made = study(DOCUMENTED)
    assert made.primary == ("RANDOM", "PREDICTOR")
    assert made.decision.secondary == [
        ("BASE", "RANDOM"), ("RANDOM", "ENTROPY"), ("ENTROPY", "PREDICTOR"),
        ("PREDICTOR", "ORACLE"),
    ]  # fmt: skip
    assert made.endpoint.metric == "eval/success_rate"
    assert len(made.seeds) >= 5


def test_every_condition_chooses_from_the_pool_of_all() -> None:
    for condition in study(DOCUMENTED).conditions[1:]:
        selection = condition.config["selection"]
        assert selection["compared"] == ["random", "entropy", "predictor", "oracle"]
        assert selection["budget"] == 500
        assert condition.config["run_id"] == f"selection_{selection['rule']}"


@pytest.mark.parametrize("methods", [("random", "entropy"), ("entropy",), ("oracle", "random")])
def test_fewer_methods_make_fewer_contrasts(methods: tuple[Any, ...]) -> None:
    made = study(SelectionSetup(labels="l", methods=methods))
    assert len(made.conditions) == 1 + len(methods)
    assert made.primary is not None
    assert made.primary[1] == {"random": "ENTROPY", "oracle": "ORACLE"}.get(methods[0], "ENTROPY")
    assert all("predictor" not in one.config["selection"] for one in made.conditions)


def test_every_condition_is_a_config_of_the_recipe() -> None:
    for student in ({}, {"backend": "torch", "model": "some/model"}):
        made = study(SelectionSetup(labels="l", predictor="p", budgets=(5, 50), student=student))
        assert len(made.conditions) == 9
        assert made.primary == ("RANDOM_K50", "PREDICTOR_K50")
        for condition in made.conditions:
            data = with_student_defaults({**made.config, **condition.config})
            config = validate(FinetuneConfig, data, where=condition.label)
            lora = LORA["lora_rank"] if student else 0
            assert (config.sft.lora_rank, config.sft.batch_size) == (lora, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predictor": None}, "needs a trained predictor"),
        ({"methods": ()}, "methods"),
        ({"budgets": (5, 5)}, "budgets"),
        ({"budgets": (0,)}, "at least 1"),
        ({"methods": ("best",)}, "no method 'best'"),
    ],
)
def test_a_study_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"labels": "l", "predictor": "p"} | change
    with pytest.raises(ConfigError, match=message):
        selection_study(SelectionSetup(**given))


def record(ends: dict[str, list[float | None]], tmp_path: Path) -> StudyRecord:
    """A finished study whose runs ended with these success rates."""
    made = study(SelectionSetup(labels="l", predictor="p", seeds=tuple(range(8))))
    runs = []
    for condition in made.conditions:
        data = json.loads(json.dumps({**made.config, **condition.config}))
        resolved = validate(FinetuneConfig, with_student_defaults(data), where="test")
        for seed, end in enumerate(ends[condition.label]):
            values = {f"{name}_end": end for name in OUTCOMES}
            runs.append(
                RunRecord(
                    folder=tmp_path / f"{condition.label}_s{seed}",
                    condition=condition.label,
                    seed=seed,
                    status="done",
                    config={"resolved": resolved.model_dump(mode="json")},
                    result=None if end is None else {"values": values},
                )
            )
    return StudyRecord(folder=tmp_path, study=made, manifest={}, lock=None, runs=tuple(runs))


RAMP = [0.001 * seed for seed in range(8)]


def ended(**means: float) -> dict[str, list[float | None]]:
    return {
        label: [mean + bump * number for bump in RAMP]
        for number, (label, mean) in enumerate(means.items(), start=1)
    }


def test_an_order_holds_when_every_step_is_resolved(tmp_path: Path) -> None:
    told = order_table(
        record(ended(BASE=0.2, RANDOM=0.3, ENTROPY=0.4, PREDICTOR=0.5, ORACLE=0.6), tmp_path)
    )
    assert told["order"]["500"]["success_rate"] == "holds"
    step = told["steps"][1]
    assert (step["baseline"], step["candidate"], step["n_seeds"]) == ("RANDOM", "ENTROPY", 8)
    assert step["interval"][0] <= step["difference"] <= step["interval"][1]
    assert step["p"] == pytest.approx(2 / 2**8)
    assert step["p_holm"] == pytest.approx(4 * step["p"])
    assert "holds" in order_markdown(told)


def test_a_step_that_goes_down_reverses_the_order(tmp_path: Path) -> None:
    told = order_table(
        record(ended(BASE=0.2, RANDOM=0.5, ENTROPY=0.4, PREDICTOR=0.6, ORACLE=0.7), tmp_path)
    )
    assert told["order"]["500"]["success_rate"] == "reversed"
    assert told["steps"][1]["resolved"] == "down"


def test_means_in_order_are_no_order_when_a_step_is_not_resolved(tmp_path: Path) -> None:
    ends = ended(BASE=0.2, RANDOM=0.3, ENTROPY=0.4, PREDICTOR=0.5, ORACLE=0.6)
    ends["ORACLE"] = [0.51 + (0.2 if seed % 2 else -0.18) for seed in range(8)]
    told = order_table(record(ends, tmp_path))
    step = told["steps"][3]
    assert step["difference"] > 0
    assert step["resolved"] == "unresolved"
    assert told["order"]["500"]["success_rate"] == "unresolved"


def test_a_run_that_is_missing_is_counted_and_its_seed_is_left_out_on_both_sides(
    tmp_path: Path,
) -> None:
    ends = ended(BASE=0.2, RANDOM=0.3, ENTROPY=0.4, PREDICTOR=0.5, ORACLE=0.6)
    ends["ENTROPY"][3] = None
    step = order_table(record(ends, tmp_path))["steps"][1]
    assert (step["n_seeds"], step["n_missing"]) == (7, 1)
    kept = [end for seed, end in enumerate(ends["RANDOM"]) if seed != 3]
    assert step["baseline_mean"] == pytest.approx(sum(kept) / 7)


def test_a_step_without_runs_leaves_the_order_unmeasured(tmp_path: Path) -> None:
    ends = ended(BASE=0.2, RANDOM=0.3, ENTROPY=0.4, PREDICTOR=0.5, ORACLE=0.6)
    told = order_table(record(ends | {"ORACLE": [None] * 8}, tmp_path))
    assert told["order"]["500"]["success_rate"] == "not measured"
    assert told["steps"][3]["difference"] is None
    assert "no runs" in order_markdown(told)
