"""Which executors this machine could use now, without importing or starting any of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """One executor: whether it can be used here, and what it has or lacks."""

    executor: str
    usable: bool
    detail: str


def executors_here() -> list[Availability]:
    """Return every executor with what it needs here; whether a cluster answers is not tried."""
    return [
        Availability(executor="inline", usable=True, detail="in this process"),
        Availability(executor="processes", usable=True, detail="side by side on this machine"),
        _ray(),
        _slurm(),
    ]


def _ray() -> Availability:
    version = _version("ray")
    if version is None:
        return Availability(executor="ray", usable=False, detail="pip install 'cupel[ray]'")
    address = os.environ.get("RAY_ADDRESS") or _running_ray()
    where = f"cluster at {address}" if address else "no cluster known here: --address"
    return Availability(executor="ray", usable=True, detail=f"ray {version}, {where}")


def _slurm() -> Availability:
    version = _version("submitit")
    if version is None:
        return Availability(executor="slurm", usable=False, detail="pip install 'cupel[slurm]'")
    found = shutil.which("sbatch") is not None
    detail = f"submitit {version}, {'sbatch is here' if found else 'no sbatch here'}"
    return Availability(executor="slurm", usable=found, detail=detail)


def _running_ray() -> str | None:
    """Return the address that a Ray cluster started on this machine left behind."""
    root = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()))
    try:
        return (root / "ray" / "ray_current_cluster").read_text().strip() or None
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
