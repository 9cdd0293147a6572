"""Makes the toy recipe importable as `lab_toy_recipe`, here and in child processes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
