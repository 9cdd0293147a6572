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
from cupel.rlvr.problems import (
    GeneratedProblems,
    Problem,
    ProblemsConfig,
    check_problems,
    is_held_out,
    load_problems,
)

SAMPLES = Path(__file__).parents[3] / "shared" / "data"


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
    with pytest.raises(DataError, match="does not fit this file"):
        load_problems(config).restore({"remaining": [4000]})
    for source in ("arithmetic", "toy"):
        embedded = load_problems(validate(ProblemsConfig, {"source": source}, where="test"))
        embedded.restore(embedded.state())
        with pytest.raises(DataError, match="file source"):
            embedded.restore({"remaining": [1]})


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
        ({"source": "toy", "path": "x.jsonl"}, "means nothing elsewhere"),
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


@pytest.mark.parametrize("source", ["arithmetic", "toy"])
def test_embedded_problems_pass_their_own_check(source: str) -> None:
    config = validate(ProblemsConfig, {"source": source}, where="test")
    problems = load_problems(config)
    check = check_problems(problems.training(rng(), 300), config.grading_kind)
    assert check.ok
    assert check.checked == 300


def test_the_check_finds_problems_their_grading_cannot_read() -> None:
    problem = Problem(id="words", prompt="name a colour", answer="red")
    check = check_problems([problem], "numeric")
    assert check.gold_failed == ("words",)
    assert check.perturbed_passed == ("words",)
    assert not check.ok


def test_real_samples_load_and_pass_the_check() -> None:
    if not SAMPLES.exists():
        pytest.skip(f"{SAMPLES} is not here")
    mathematics = ProblemsConfig(source="jsonl", path=str(SAMPLES / "math_sample.jsonl"))
    school = ProblemsConfig(
        source="jsonl",
        path=str(SAMPLES / "gsm8k_sample.jsonl"),
        prompt_field="question",
        answer_pattern=r"####\s*(.+)",
        grading="numeric",
    )
    for config, minimum in ((mathematics, 200), (school, 500)):
        problems = load_problems(config).training(rng(), minimum)
        check = check_problems(problems, config.grading_kind)
        assert check.ok
