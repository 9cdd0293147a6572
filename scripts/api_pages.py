"""The pages of docs/api: which public names the site documents, read from the sources.

Knows where the public names live and in which order they are shown; the site's builder reads their
signatures and docstrings from the sources. Refuses to say anything about a name itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import cupel

SOURCE = Path(__file__).parents[1] / "src"
STATS = (
    "permutation", "intervals", "effects", "equivalence", "paired_proportions", "proportions",
    "pass_at_k", "nested", "clustered", "multiplicity", "ranking", "robust", "sequential", "power",
    "exact_power", "campaign_power", "samples", "tallied", "procedures", "calibration", "verdicts",
)  # fmt: skip
RLVR = (
    "advantages", "credit", "batch_credit", "planning", "schedules", "algorithms", "grading",
    "perturbation", "evaluation_rates", "scaling_law", "backpressure",
)  # fmt: skip


def api_pages() -> dict[str, str]:
    """Return the pages by name.

    Raises:
        AssertionError: a module of `cupel.stats` has no place in the order above.
    """
    there = {path.stem for path in (SOURCE / "cupel" / "stats").glob("[a-z]*.py")}
    assert set(STATS) == there, set(STATS) ^ there
    return {
        "index.md": _surface_page(),
        "testing.md": _testing_page(),
        "stats.md": _modules_page(
            "`cupel.stats`: statistics on arrays",
            "Pure functions: arrays and a generator in, values out. They refuse NaN and wrong "
            "shapes, and decide nothing.",
            [f"cupel.stats.{name}" for name in STATS],
        ),
        "rlvr.md": _modules_page(
            "`cupel.rlvr`: the formulas of a training step",
            "The pure part of `rlvr.train`: rewards to advantages, uncertainties to credit, "
            "steps to schedules.\nThe suffix of a name is its shape: P problems, G completions of "
            "a group, N completions, T tokens.",
            [f"cupel.rlvr.{name}" for name in RLVR],
        ),
    }


def _surface_page() -> str:
    homes: dict[str, list[str]] = {}
    for name, home in cupel._HOMES.items():
        homes.setdefault(home, []).append(name)
    parts = [
        "# `cupel`: the public names\n\nWhat `import cupel` offers. Names load at their first use, "
        "so the import costs nothing.\n"
    ]
    for home, names in homes.items():
        parts.append(f"## From `{home}`\n")
        parts += [_block(_definition(home, name)) for name in names]
    return "\n".join(parts)


def _testing_page() -> str:
    names = ast.literal_eval(_assigned(SOURCE / "cupel" / "testing.py", "__all__"))
    return (
        "# `cupel.testing`: checks for what you bring\n\nFor those who write an environment, "
        "problems or a grader of their own.\n\n"
        + "\n".join(_block(_definition("cupel.testing", name)) for name in names)
    )


def _modules_page(title: str, opening: str, modules: Sequence[str]) -> str:
    parts = [f"# {title}\n\n{opening}\n"]
    for module in modules:
        docstring = ast.get_docstring(ast.parse(_file(module).read_text())) or ""
        parts.append(f"## `{module}`\n\n{docstring.split(chr(10) * 2)[0]}\n")
        parts += [_block(f"{module}.{name}") for name in _public(module)]
    return "\n".join(parts)


def _block(path: str) -> str:
    return f"::: {path}\n"


def _public(module: str) -> Iterator[str]:
    for node in ast.parse(_file(module).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _definition(module: str, name: str) -> str:
    """Return the dotted path of where a name is defined, following imports."""
    for node in ast.walk(ast.parse(_file(module).read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return f"{module}.{name}"
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(node.module, alias.name)
    raise AssertionError(f"{module} neither defines nor imports {name}")


def _file(module: str) -> Path:
    path = SOURCE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _assigned(path: Path, name: str) -> ast.expr:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return node.value
    raise AssertionError(f"{path.name} has no {name}")
