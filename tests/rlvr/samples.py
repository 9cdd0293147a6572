"""Where the real samples lie: beside the repository, or where CUPEL_TEST_DATA says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(os.environ.get("CUPEL_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def sample(name: str) -> Path:
    """Return the path of a sample; skip the test, visibly, where it is absent."""
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"{path} is not here; set CUPEL_TEST_DATA")
    return path


def sample_rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sample(name).read_text().splitlines()]
