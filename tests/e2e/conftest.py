"""The unbroken run of the tiny model that determinism and resume are held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.program import ASSET, NO_TINY, TINY, succeed


@pytest.fixture(scope="session")
def tiny_unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the tiny model for ten steps and return the run folder."""
    if not ASSET.is_file():
        pytest.skip(NO_TINY)
    folder = tmp_path_factory.mktemp("tiny")
    succeed(folder, *TINY, "--log-dir", "run")
    return folder / "run"
