"""Data sets of the hub, from local copies laid out as there, and the hub that does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.errors import DataError
from cupel.rlvr.problems import ProblemsConfig, load_problems

datasets = pytest.importorskip("datasets")

SUBJECTS = {"geometry": "Geometry", "number_theory": "Number Theory"}


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def mathematics(subject: str, split: str, count: int) -> Any:
    return datasets.Dataset.from_list(
        [
            {
                "problem": f"{subject} {split} {n}",
                "level": f"Level {1 + n % 5}",
                "type": SUBJECTS[subject],
                "solution": f"clearly $\\boxed{{\\frac{{{n}}}{{7}}}}$",
            }
            for n in range(count)
        ]
    )


def school(split: str, count: int) -> Any:
    return datasets.Dataset.from_list(
        [{"question": f"{split} {n} apples?", "answer": f"so\n#### {n}"} for n in range(count)]
    )


def hub_layout(folder: Path, tables: dict[str, dict[str, Any]], *, card: bool) -> str:
    """Write parquet files as a repository of the hub has them, with or without its card."""
    lines = ["---", "configs:"]
    for name, splits in tables.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, table in splits.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            table.to_parquet(str(folder / name / f"{split}-00000-of-00001.parquet"))
            lines += [f"  - split: {split}", f"    path: {name}/{split}-*"]
    if card:
        (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(folder)


def mathematics_tables() -> dict[str, dict[str, Any]]:
    return {
        subject: {
            "train": mathematics(subject, "train", 12),
            "test": mathematics(subject, "test", 5),
        }
        for subject in SUBJECTS
    }


@pytest.mark.parametrize("layout", ["card", "folders", "saved"])
def test_a_local_copy_of_mathematics_loads(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "MATH"
    if layout == "saved":
        for subject, splits in mathematics_tables().items():
            datasets.DatasetDict(splits).save_to_disk(str(folder / subject))
        path = str(folder)
    else:
        path = hub_layout(folder, mathematics_tables(), card=layout == "card")
    config = ProblemsConfig(source="math", path=path, subjects=list(SUBJECTS))
    problems = load_problems(config)
    found = problems.training(np.random.default_rng(0), 24)
    assert {problem.subject for problem in found} == set(SUBJECTS)
    assert {problem.level for problem in found} == set("12345")
    assert all("train" in problem.prompt for problem in found)
    assert r"\frac{11}{7}" in {problem.answer for problem in found}
    assert all("test" in problem.prompt for problem in problems.held_out(10))
    assert any("geometry 12, number_theory 12" in note for note in problems.notes)


def test_an_absent_subject_names_those_there_are(tmp_path: Path) -> None:
    path = hub_layout(tmp_path / "MATH", mathematics_tables(), card=True)
    with pytest.raises(DataError, match=r"no configuration 'algebra'.*geometry, number_theory"):
        load_problems(ProblemsConfig(source="math", path=path, subjects=["algebra"]))


def test_few_examples_come_from_every_subject(tmp_path: Path) -> None:
    path = hub_layout(tmp_path / "MATH", mathematics_tables(), card=True)
    config = ProblemsConfig(source="math", path=path, subjects=list(SUBJECTS), max_examples=8)
    found = load_problems(config).training(np.random.default_rng(0), 8)
    assert len({problem.id for problem in found}) == 8
    assert {problem.subject for problem in found} == set(SUBJECTS)


def test_school_problems_load_by_split_and_pattern(tmp_path: Path) -> None:
    tables = {"main": {"train": school("train", 20), "test": school("test", 6)}}
    path = hub_layout(tmp_path / "gsm8k", tables, card=True)
    problems = load_problems(ProblemsConfig(source="gsm8k", path=path, prompt_template="plain"))
    for problem in problems.training(np.random.default_rng(0), 20):
        assert problem.prompt == f"train {problem.answer} apples?"
    assert {problem.prompt for problem in problems.held_out(6)} == {
        f"test {n} apples?" for n in range(6)
    }
    shared = ProblemsConfig(source="gsm8k", path=path, held_out_split="none")
    assert "train" in load_problems(shared).held_out(1)[0].prompt


def test_any_data_set_maps_its_columns(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for split in ("train", "validation"):
        table = datasets.Dataset.from_list(
            [{"ask": f"{split} {n}", "gold": n, "kind": "k"} for n in range(15)]
        )
        table.to_json(str(folder / f"{split}.jsonl"))
    settings: dict[str, Any] = {"path": str(folder), "prompt_field": "ask", "answer_field": "gold"}
    problems = load_problems(
        ProblemsConfig(
            source="datasets", held_out_split="validation", subject_field="kind", **settings
        )
    )
    problem = problems.training(np.random.default_rng(0), 1)[0]
    assert problem.prompt == f"train {problem.answer}"
    assert problem.subject == "k"
    with pytest.raises(DataError, match="split 'test' cannot be loaded"):
        load_problems(ProblemsConfig(source="datasets", held_out_split="test", **settings))
    with pytest.raises(DataError, match=r"no column 'problem'; .*Set problems.prompt_field"):
        load_problems(ProblemsConfig(source="datasets", path=str(folder)))


def test_saved_data_sets_need_their_splits(tmp_path: Path) -> None:
    path = tmp_path / "saved"
    datasets.DatasetDict({"train": school("train", 9)}).save_to_disk(str(path))
    with pytest.raises(DataError, match=r"no split 'test'.*held_out_split"):
        load_problems(ProblemsConfig(source="gsm8k", path=str(path)))
    single = tmp_path / "single"
    school("train", 9).save_to_disk(str(single))
    with pytest.raises(DataError, match="a single split without its name"):
        load_problems(ProblemsConfig(source="gsm8k", path=str(single)))
    with pytest.raises(DataError, match="no such folder"):
        load_problems(ProblemsConfig(source="gsm8k", path=str(tmp_path / "absent")))


@pytest.mark.parametrize(
    ("source", "names"),
    [(["math"], "EleutherAI/hendrycks_math"), (["datasets", "me/mine"], "me/mine")],
)
def test_a_hub_that_does_not_answer_is_one_line(
    tmp_path: Path, source: list[str], names: str
) -> None:
    words = ["train", "--backend", "torch", "--model", "nobody/nothing", "--log-dir", "run"]
    words += ["--problems.source", source[0]]
    words += ["--problems.dataset", source[1]] if len(source) > 1 else []
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "cupel", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")},
    )
    assert done.returncode == 2, done.stderr
    assert time.monotonic() - started < 60
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"problems.dataset = '{names}': the hub cannot be reached" in done.stderr
    assert "problems.path" in done.stderr
    assert "Traceback" not in done.stderr
