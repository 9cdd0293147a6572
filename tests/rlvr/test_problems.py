"""Problem sets: fixed splits, orders that come from a generator, damage named precisely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.config import to_dict, validate
from cupel.errors import ConfigError, DataError
from cupel.rlvr.problem import is_held_out
from cupel.rlvr.problems import GeneratedProblems, Problem, ProblemsConfig, load_problems


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"problem": f"problem {n}", "answer": n + 1, "level": n % 3} for n in range(count)]


def draw_one_of_thirty(generator: np.random.Generator) -> Problem:
    number = str(int(generator.random() * 30))
    return Problem(id=number, prompt=number, answer=number)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_generated_training_never_meets_the_held_out() -> None:
    problems = load_problems(ProblemsConfig())
    held_out = {problem.id for problem in problems.held_out(40)}
    training = {problem.id for problem in problems.training(rng(), 2000)}
    assert len(held_out) == 40
    assert not held_out & training


def test_held_out_problems_are_fixed_and_a_prefix_of_a_longer_list() -> None:
    first, second = load_problems(ProblemsConfig()), load_problems(ProblemsConfig())
    second.training(rng(9), 17)
    assert first.held_out(20) == second.held_out(50)[:20]


def test_generated_problems_come_from_the_generator_alone() -> None:
    first, second = load_problems(ProblemsConfig()), load_problems(ProblemsConfig())
    assert first.training(rng(3), 10) == second.training(rng(3), 10)
    assert first.training(rng(3), 10) != second.training(rng(4), 10)


def test_arithmetic_answers_are_right_and_levels_count_steps() -> None:
    for problem in load_problems(ProblemsConfig()).training(rng(), 200):
        expression = problem.prompt.removeprefix("what is ").removesuffix(" ?")
        assert problem.answer == str(eval(expression))
        assert problem.level == str(expression.count("+") + expression.count("-"))


def test_too_many_held_out_problems_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"lower evaluation\.problems"):
        GeneratedProblems(draw_one_of_thirty, ProblemsConfig()).held_out(30)
    with pytest.raises(DataError, match="has 8 problems, 9 were asked"):
        load_problems(ProblemsConfig(source="toy")).held_out(9)


def test_toy_problems_are_eight_digits_and_held_out_from_nothing() -> None:
    problems = load_problems(ProblemsConfig(source="toy"))
    assert {problem.prompt for problem in problems.training(rng(), 200)} == set("01234567")
    assert [problem.answer for problem in problems.held_out(8)] == list("14703692")
    assert problems.notes == ("toy: the held-out problems are the training problems",)


@given(st.text(), st.floats(0.01, 0.98))
def test_a_larger_fraction_only_adds_held_out_problems(text: str, fraction: float) -> None:
    assert is_held_out(text, fraction) <= is_held_out(text, fraction + 0.01)


def test_the_held_out_share_is_the_fraction() -> None:
    share = np.mean([is_held_out(f"text {n}", 0.1) for n in range(20_000)])
    assert share == pytest.approx(0.1, abs=0.01)


def test_a_file_gives_every_problem_once_an_epoch(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", numbered(50))
    problems = load_problems(ProblemsConfig(source="jsonl", path=path))
    generator = rng(1)
    size = len({f"problem {n}" for n in range(50) if not is_held_out(f"problem {n}", 0.1)})
    epoch = [problem.id for _ in range(size) for problem in problems.training(generator, 1)]
    following = [problem.id for problem in problems.training(generator, size)]
    assert len(set(epoch)) == size
    assert sorted(epoch) == sorted(following)
    assert epoch != following


def test_the_order_does_not_depend_on_how_many_are_taken_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", numbered(30))
    config = ProblemsConfig(source="jsonl", path=path)
    one, other = load_problems(config), load_problems(config)
    first, second = rng(5), rng(5)
    left = [problem for _ in range(20) for problem in one.training(first, 3)]
    right = [problem for _ in range(6) for problem in other.training(second, 10)]
    assert left == right


def test_the_file_split_ignores_the_files_order(tmp_path: Path) -> None:
    rows = numbered(200)
    forward = write(tmp_path / "a.jsonl", rows)
    backward = write(tmp_path / "b.jsonl", rows[::-1])
    left, right = (
        load_problems(ProblemsConfig(source="jsonl", path=path)).held_out(10)
        for path in (forward, backward)
    )
    assert left == right


def test_a_restored_file_continues_inside_its_epoch(tmp_path: Path) -> None:
    config = ProblemsConfig(source="jsonl", path=write(tmp_path / "p.jsonl", numbered(40)))
    unbroken, broken, resumed = (load_problems(config) for _ in range(3))
    first, second = rng(2), rng(2)
    expected = [unbroken.training(first, 7) for _ in range(12)]
    head = [broken.training(second, 7) for _ in range(4)]
    resumed.restore(json.loads(json.dumps(broken.state())))
    tail = [resumed.training(second, 7) for _ in range(8)]
    assert head + tail == expected


def test_a_state_of_another_file_is_refused(tmp_path: Path) -> None:
    config = ProblemsConfig(source="jsonl", path=write(tmp_path / "p.jsonl", numbered(40)))
    with pytest.raises(DataError, match="does not fit these problems"):
        load_problems(config).restore({"remaining": [4000]})
    for source in ("arithmetic", "toy"):
        embedded = load_problems(validate(ProblemsConfig, {"source": source}, where="test"))
        embedded.restore(embedded.state())
        with pytest.raises(DataError, match="file source"):
            embedded.restore({"remaining": [1]})


def test_problems_that_changed_since_the_checkpoint_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    before = load_problems(ProblemsConfig(source="jsonl", path=write(path, numbered(40))))
    state = before.state()
    rows = numbered(40)
    rows[7] = {**rows[7], "answer": "another"}
    after = load_problems(ProblemsConfig(source="jsonl", path=write(path, rows)))
    assert after.sha256 != before.sha256
    with pytest.raises(DataError, match="changed since the checkpoint"):
        after.restore(state)


def test_columns_template_and_answer_pattern(tmp_path: Path) -> None:
    rows = [{"question": f"q {n}", "solution": f"so\n#### {n}", "type": "sums"} for n in range(30)]
    config = ProblemsConfig(
        source="jsonl",
        path=write(tmp_path / "p.jsonl", rows),
        prompt_field="question",
        answer_field="solution",
        answer_pattern=r"####\s*(.+)",
        subject_field="type",
        prompt_template="Solve: {problem}\n",
        max_examples=20,
    )
    found = load_problems(config).training(rng(), 15)
    for problem in found:
        number = int(problem.answer)
        assert number < 20
        assert problem.prompt == f"Solve: q {number}\n"
        assert problem.subject == "sums"
        assert problem.level is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", r"holds no problem"),
        ('{"problem": "a", "answer": "1"}\n{broken\n', r"p\.jsonl line 2: not JSON"),
        ("[1]\n", r"line 1: expected a JSON object, found list"),
        ('{"problm": "a", "answer": "1"}\n', r"no column 'problem'; did you mean 'problm'"),
        ('{"problem": "a"}\n', r"no column 'answer'"),
        ('{"problem": "a", "answer": " "}\n', r"line 1: column 'answer' is empty"),
        ('{"problem": "a", "answer": null}\n', r"column 'answer' is None"),
        (
            '{"problem": "a", "answer": "1"}\n\n{"problem": "a", "answer": "2"}\n',
            r"line 3: the same problem was given before with answer '1', here '2'",
        ),
    ],
)
def test_damage_is_named_by_file_line_and_column(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(lines)
    with pytest.raises(DataError, match=message):
        load_problems(ProblemsConfig(source="jsonl", path=str(path)))


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_problems(ProblemsConfig(source="jsonl", path=str(tmp_path / "absent.jsonl")))


def test_an_answer_the_pattern_does_not_find_is_a_data_error(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"problem": "a", "answer": "no mark"}])
    config = ProblemsConfig(source="jsonl", path=path, answer_pattern="#### (.+)")
    with pytest.raises(DataError, match="finds no answer"):
        load_problems(config)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": "jsonl"}, "a path is needed"),
        ({"source": "toy", "path": "x.jsonl"}, "means nothing with an embedded one"),
        ({"source": "parquet"}, "a path is needed"),
        ({"source": "datasets"}, "needs dataset = a hub id"),
        ({"source": "math", "subjects": ["geometri"]}, "did you mean 'geometry'"),
        ({"source": "math", "subjects": []}, "selects nothing"),
        ({"source": "toy", "subjects": ["toy"]}, "means nothing with source 'toy'"),
        ({"source": "jsonl", "path": "p", "split": "x", "dataset": "a/b"}, "dataset means nothing"),
        ({"source": "math", "held_out_path": "p"}, "use held_out_split"),
        ({"source": "mathh"}, "Input should be"),
        ({"grading": "custom"}, "a function is needed"),
        ({"grading_function": "a:b"}, "means nothing elsewhere"),
        ({"grading": "custom", "grading_function": "a.b"}, "expected module:function"),
        ({"prompt_template": "boxd"}, "did you mean 'boxed'"),
        ({"prompt_template": "solve it"}, r"must contain \{problem\}"),
        ({"answer_pattern": "["}, "not a regular expression"),
        ({"answer_pattern": "####"}, "must have a"),
    ],
)
def test_settings_that_contradict_each_other(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ProblemsConfig, data, where="test")


def test_the_config_survives_json() -> None:
    config = ProblemsConfig(source="jsonl", path="p.jsonl", answer_pattern=r"####\s*(.+)")
    assert validate(ProblemsConfig, to_dict(config), where="test") == config


def test_a_source_lays_its_settings_under_what_was_given() -> None:
    school = validate(ProblemsConfig, {"source": "gsm8k", "grading": "boxed"}, where="test")
    assert (school.dataset, school.dataset_config) == ("openai/gsm8k", "main")
    assert (school.prompt_field, school.answer_pattern) == ("question", "gsm8k")
    assert (school.held_out_split, school.prompt_template) == ("test", "boxed")
    assert school.grading == "boxed"
    local = ProblemsConfig(source="gsm8k", path="sample.jsonl")
    assert local.held_out_split is None
    assert ProblemsConfig(source="toy").grading == "numeric"
    for config in (school, local, ProblemsConfig(source="math")):
        assert validate(ProblemsConfig, to_dict(config), where="test") == config


def test_mathematics_has_the_five_documented_subjects() -> None:
    assert ProblemsConfig(source="math").subjects == [
        "intermediate_algebra",
        "precalculus",
        "number_theory",
        "counting_and_probability",
        "geometry",
    ]
    given = ProblemsConfig(source="math", subjects=["Counting & Probability", "Prealgebra"])
    assert given.subjects == ["counting_and_probability", "prealgebra"]


def test_mathematics_from_a_file_keeps_subject_level_and_box(tmp_path: Path) -> None:
    rows = [
        {
            "problem": f"p{n}",
            "solution": f"so \\boxed{{{n}}}",
            "type": ["Geometry", "Algebra", "Counting & Probability"][n % 3],
            "level": f"Level {1 + n % 5}",
        }
        for n in range(90)
    ]
    path = write(tmp_path / "m.jsonl", rows)
    problems = load_problems(ProblemsConfig(source="math", path=path, prompt_template="plain"))
    found = problems.training(rng(), 40)
    assert {problem.subject for problem in found} == {"geometry", "counting_and_probability"}
    for problem in found:
        number = int(problem.prompt.removeprefix("p"))
        assert problem.answer == str(number)
        assert problem.level == str(1 + number % 5)
    assert any("no problem of the subjects intermediate_algebra" in note for note in problems.notes)
    assert any("counting_and_probability 30, geometry 30" in note for note in problems.notes)
    boxed = load_problems(ProblemsConfig(source="math", path=path)).training(rng(), 1)[0]
    assert "within \\boxed{}" in boxed.prompt
    with pytest.raises(DataError, match="holds no problem of the subjects precalculus; it has alg"):
        load_problems(ProblemsConfig(source="math", path=path, subjects=["precalculus"]))


def test_subjects_select_rows_of_any_file(tmp_path: Path) -> None:
    rows = [{"problem": f"p{n}", "answer": n, "subject": f"s {n % 3}"} for n in range(60)]
    path = write(tmp_path / "p.jsonl", rows)
    found = load_problems(ProblemsConfig(source="jsonl", path=path, subjects=["S 1"]))
    assert {problem.subject for problem in found.training(rng(), 30)} == {"s 1"}
    with pytest.raises(DataError, match="no problem of subject 's_7'"):
        load_problems(ProblemsConfig(source="jsonl", path=path, subjects=["s_1", "s_7"]))
    bare = write(tmp_path / "bare.jsonl", numbered(9))
    with pytest.raises(DataError, match=r"no row has a column 'subject'; set"):
        load_problems(ProblemsConfig(source="jsonl", path=bare, subjects=["s"]))


def test_parquet_rows_are_the_same_problems(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    lines = write(tmp_path / "p.jsonl", numbered(60))
    table = tmp_path / "p.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(numbered(60)), table)
    left = load_problems(ProblemsConfig(source="jsonl", path=lines))
    right = load_problems(ProblemsConfig(source="parquet", path=str(table)))
    assert left.held_out(3) == right.held_out(3)
    assert left.training(rng(), 30) == right.training(rng(), 30)
    (tmp_path / "broken.parquet").write_text("no table")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        load_problems(ProblemsConfig(source="parquet", path=str(tmp_path / "broken.parquet")))
    with pytest.raises(DataError, match="no such file"):
        load_problems(ProblemsConfig(source="parquet", path=str(tmp_path / "absent.parquet")))


def test_held_out_problems_may_have_a_file_of_their_own(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", numbered(20))
    other = [{"problem": f"other {n}", "answer": n} for n in range(5)]
    test = write(tmp_path / "test.jsonl", [*other, numbered(20)[3]])
    problems = load_problems(ProblemsConfig(source="jsonl", path=train, held_out_path=test))
    held_out = {problem.prompt for problem in problems.held_out(6)}
    assert held_out == {"problem 3", *(f"other {n}" for n in range(5))}
    assert not held_out & {problem.prompt for problem in problems.training(rng(), 19)}
    assert any("1 training problems are held out too" in note for note in problems.notes)
    with pytest.raises(DataError, match=r"6 held-out problems, 7 were asked"):
        problems.held_out(7)


def test_a_solution_column_is_pointed_at(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"problem": "a", "solution": r"\boxed{1}"}])
    with pytest.raises(DataError, match=r"answer_field = 'solution' and problems.answer_pattern"):
        load_problems(ProblemsConfig(source="jsonl", path=path))
    unboxed = write(tmp_path / "q.jsonl", [{"problem": "a", "solution": "one"}])
    with pytest.raises(DataError, match="'boxed' finds no answer in column 'solution'"):
        load_problems(ProblemsConfig(source="math", path=unboxed, subjects=None))
