"""Synthetic studies for the report's tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The generator of synthetic study folders."""
    spec = importlib.util.spec_from_file_location(
        "synthetic_study", Path(__file__).with_name("synthetic.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def study(synthetic: ModuleType, tmp_path: Path) -> Path:
    """A judged study of 2 conditions x 4 seeds with one failed run."""
    folder: Path = synthetic.write_study(tmp_path / "study")
    return folder
