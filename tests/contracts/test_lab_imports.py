"""What importing the lab costs, and what it must never drag in."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cupel.lab


def imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "never"),
    [
        ("import cupel.lab", {"torch", "scipy", "numpy", "pydantic"}),
        ("from cupel.lab import read_study", {"torch", "scipy", "numpy"}),
        ("from cupel.lab.executors.fork_server import serve", {"torch", "scipy", "rich", "click"}),
        ("from cupel.lab import plan_study, execute_study", {"torch", "rich", "click"}),
    ],
)
def test_an_import_stays_light(statement: str, never: set[str]) -> None:
    assert imported_by(statement) & never == set()


def test_every_public_name_exists_and_is_listed() -> None:
    assert dir(cupel.lab) == sorted(cupel.lab.__all__)
    for name in cupel.lab.__all__:
        assert getattr(cupel.lab, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'read_studi'"):
        cupel.lab.read_studi  # noqa: B018
