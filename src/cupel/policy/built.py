"""Where built models lie: the folders that ship with Cupel, and the cache.

Knows paths only. Refuses to import what loads them, so that they can be listed in no time.
"""

from __future__ import annotations

import os
from pathlib import Path

SHIPPED = Path(__file__).parent / "assets" / "tiny-arithmetic"
"""The start that comes with Cupel: the builder's output for seed 0, a pre-filled cache."""

SHOP = Path(__file__).parent / "assets" / "tiny-shop"
"""The start of the student of `cupel teach`, over the shop's vocabulary."""

BUILD_RECORD = "build.json"


def cache_root() -> Path:
    """Return the folder of built models: $CUPEL_CACHE, or `cupel` in the user's cache folder."""
    override = os.environ.get("CUPEL_CACHE")
    if override:
        return Path(override)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cupel"
