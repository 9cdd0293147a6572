"""The public surface, the import contracts and the cost of starting."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cupel
from cupel import errors

SOURCE = Path(cupel.__file__).parent
LONG_FILES: dict[str, str] = {}
"""Files allowed over 400 lines, with the reason."""


def test_public_names_are_few_and_importable() -> None:
    assert len(cupel.__all__) <= 30
    for name in cupel.__all__:
        assert getattr(cupel, name) is not None


def test_error_tree_matches_its_docstring() -> None:
    drawn = errors.__doc__ or ""
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.CupelError)
    ]
    assert len(classes) >= 8
    for error in classes:
        assert error.__name__ in drawn


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=SOURCE.parents[1], check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_file_and_no_function_grew_past_the_style_card() -> None:
    problems = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        name = str(path.relative_to(SOURCE))
        lines = text.count("\n")
        if lines > 400 and name not in LONG_FILES:
            problems.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 80:
                    problems.append(f"{name}: {node.name} has {length} lines")
    assert not problems, problems


def test_every_module_says_what_it_knows() -> None:
    silent = [
        str(path.relative_to(SOURCE))
        for path in sorted(SOURCE.rglob("*.py"))
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, silent


@pytest.mark.parametrize(
    "code",
    [
        "import cupel",
        "import cupel.cli",
        "import cupel.lab, cupel.analysis, cupel.stats, cupel.report",
    ],
)
def test_starting_loads_no_torch(code: str) -> None:
    check = f"import sys; {code}; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
