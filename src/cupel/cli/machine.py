"""What this machine can run: cores, memory, GPUs, rates, backends, executors, and model sizes.

Measures in a child process, so that a broken torch is a row and not a crash. Refuses to judge
what is installed of Cupel itself: that is `doctor`'s.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

Status = Literal["ok", "absent", "warning", "failed"]

PROBE_DEADLINE_S = 30.0
HUGGING_FACE = ("torch", "transformers", "tokenizers", "safetensors")
BACKEND_NEEDS: Mapping[str, Sequence[str]] = {
    "toy": (),
    "tiny": HUGGING_FACE,
    "torch": HUGGING_FACE,
    "openai": ("openai", "peft", *HUGGING_FACE),
    "tinker": ("tinker",),
}
"""Modules that each backend imports."""

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where a container's memory limit stands, version 2 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at; `facts` holds its numbers."""

    name: str
    status: Status
    detail: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def start_probe() -> subprocess.Popen[str]:
    """Start measuring; whatever else is looked at meanwhile costs no time."""
    return subprocess.Popen(
        [sys.executable, "-m", "cupel.policy.machine"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_compute(
    probe: subprocess.Popen[str], *, deadline_s: float = PROBE_DEADLINE_S
) -> list[Check]:
    """Read what the probe measured: torch, GPUs, rates, and the models that fit."""
    try:
        out, err = probe.communicate(timeout=deadline_s)
        found = json.loads(out.splitlines()[-1]) if probe.returncode == 0 else None
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return [_torch_failed(f"no answer in {deadline_s:g} s"), *_sizes([])]
    except (ValueError, IndexError):
        found = None
    if found is None:
        why = (err.strip().splitlines() or ["no message"])[-1]
        return [_torch_failed(why), *_sizes([])]
    return [_torch(found), *_gpus(found["gpus"]), _rates(found["cpu"]), *_sizes(found["gpus"])]


def check_machine() -> Check:
    """Say how many cores and how much memory there are."""
    from cupel.lab.executors.processes import cpu_count

    usable, present = cpu_count(), os.cpu_count() or 1
    total, available = memory_bytes()
    cores = f"{usable} cores" if usable == present else f"{usable} of {present} cores"
    amount = "memory unknown" if total is None else f"{total / 2**30:.1f} GiB memory"
    if available is not None:
        amount += f", {available / 2**30:.1f} GiB of it available"
    return Check(
        name="machine",
        status="ok",
        detail=f"{cores}, {amount}",
        facts={"cores": usable, "memory_bytes": total, "available_bytes": available},
    )


def check_backends() -> list[Check]:
    """Say which backends can be used with what is installed; runs and imports nothing."""
    from cupel.policy.config import Backend

    checks = []
    for backend in get_args(Backend):
        missing = [name for name in BACKEND_NEEDS.get(backend, ()) if not _installed(name)]
        detail = f"missing: {', '.join(missing)}" if missing else "usable"
        status: Status = "absent" if missing else "ok"
        checks.append(Check(name=f"backend {backend}", status=status, detail=detail))
    return checks


def check_executors() -> list[Check]:
    """Say which executors can run a study from here."""
    from cupel.lab.executors.available import executors_here

    return [
        Check(
            name=f"executor {each.executor}",
            status="ok" if each.usable else "absent",
            detail=each.detail,
        )
        for each in executors_here()
    ]


def memory_bytes() -> tuple[int | None, int | None]:
    """Return total and available memory, a container's limit respected; None where unknown."""
    total, available = _physical()
    for path in CGROUP_LIMITS:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
        total = limit if total is None else min(total, limit)
    if available is not None and total is not None:
        available = min(available, total)
    return total, available


def _physical() -> tuple[int | None, int | None]:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None, None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        table = dict(line.split(":", 1) for line in lines)
        return total, 1024 * int(table["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return total, None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _torch(found: Mapping[str, Any]) -> Check:
    if found["torch"] is not None:
        return Check(
            name="torch",
            status="ok",
            detail=f"works; {found['threads']} threads by default, a run uses 1 unless told",
            facts={"version": found["torch"]},
        )
    if not _installed("torch"):
        mend = "needed by the tiny and torch backends: pip install 'cupel[torch]'"
        return Check(name="torch", status="absent", detail=mend)
    return _torch_failed(found["problem"])


def _torch_failed(why: str) -> Check:
    return Check(name="torch", status="failed", detail=f"cannot be imported: {why}")


def _gpus(gpus: Sequence[Mapping[str, Any]]) -> list[Check]:
    if not gpus:
        return [Check(name="gpu", status="absent", detail="none; runs use the CPU")]
    checks = []
    for index, gpu in enumerate(gpus):
        detail = f"{gpu['name']}, {gpu['memory_bytes'] / 2**30:.0f} GiB"
        if "rates" in gpu:
            detail += f"; {_speed(gpu['rates'])}"
        problem = gpu.get("problem")
        checks.append(
            Check(
                name=f"gpu cuda:{index}",
                status="warning" if problem else "ok",
                detail=f"{detail}; {problem}" if problem else detail,
                facts=gpu,
            )
        )
    return checks


def _rates(rates: Mapping[str, Any]) -> Check:
    detail = f"{_speed(rates)}; read and write counted (backpressure.peak_gflops, peak_gb_per_s)"
    return Check(name="rates", status="ok", detail=detail, facts=rates)


def _speed(rates: Mapping[str, Any]) -> str:
    return (
        f"matmul {rates['gflops']:,.0f} GFLOP/s, copy {rates['gb_per_s']:,.0f} GB/s "
        f"({rates['what']})"
    )


def _sizes(gpus: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Say which model sizes fit on the CPU and on each GPU."""
    _, available = memory_bytes()
    places = [] if available is None else [("cpu", float(available))]
    places += [(f"cuda:{i}", float(gpu["memory_bytes"])) for i, gpu in enumerate(gpus)]
    return [_fits(place, memory) for place, memory in places]


def _fits(place: str, memory: float) -> Check:
    from cupel.policy.footprint import FORMULA, Dtype, Use, largest_model

    sizes = {
        use: {dtype: largest_model(memory, use, dtype) for dtype in get_args(Dtype)}
        for use in get_args(Use)
    }
    words = {"full": "full fine-tuning", "lora": "LoRA", "sampling": "sampling"}
    parts = [
        f"{words[use]} {size_text(of['float32'])} fp32, {size_text(of['bfloat16'])} bf16"
        for use, of in sizes.items()
    ]
    return Check(
        name=f"fits {place}",
        status="ok",
        detail="parameters at most: " + "; ".join(parts),
        facts={"memory_bytes": int(memory), "parameters": sizes, "formula": FORMULA},
    )


def size_text(parameters: int) -> str:
    """Return a model size as people write it.

    >>> size_text(1_540_000_000), size_text(134_784)
    ('1.5 B', '0.13 M')
    """
    if parameters >= 1e9:
        return f"{parameters / 1e9:.2g} B" if parameters < 1e11 else f"{parameters / 1e9:.0f} B"
    return f"{parameters / 1e6:.2g} M" if parameters < 1e8 else f"{parameters / 1e6:.0f} M"
