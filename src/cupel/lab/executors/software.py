"""Whether two machines would compute the same: Cupel's own sources and the packages that count.

Knows versions. Refuses to overlook a difference: a study has one software.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import cupel

PACKAGES = (
    "numpy",
    "scipy",
    "pydantic",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
)
"""Packages whose version may change a run's bytes; others may differ."""


@cache
def software() -> Mapping[str, str]:
    """Return the versions of this process by name; a package that is not installed is left out.

    A local build label is left out too: torch 2.13.0+cpu and torch 2.13.0+cu130 may meet.
    """
    found = {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "cupel": f"{cupel.__version__} (sources {_sources()})",
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    return found


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Return in words what differs; what only `there` has does not count.

    >>> differences({"python": "3.11", "numpy": "2.1"}, {"python": "3.12", "torch": "2.6"})
    ['python 3.12 instead of 3.11', 'no numpy instead of 2.1']
    """
    return [
        f"{name} {there[name]} instead of {version}"
        if name in there
        else f"no {name} instead of {version}"
        for name, version in here.items()
        if there.get(name) != version
    ]


def _sources() -> str:
    root = Path(cupel.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
