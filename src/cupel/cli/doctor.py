"""`cupel doctor`: what works on this machine, what is missing, and how to mend it.

Looks at torch from a child process, so that a broken installation is a row and not a crash.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO
from cupel.cli.source import json_option

Status = Literal["ok", "absent", "warning", "failed"]

TORCH_PROBE = """
import json, torch
gpu = torch.cuda.is_available()
print(json.dumps({
    "threads": torch.get_num_threads(),
    "gpu": torch.cuda.get_device_name(0) if gpu else None,
    "gpus": torch.cuda.device_count() if gpu else 0,
    "product": float((torch.ones(8, 8) @ torch.ones(8, 8)).sum()),
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    status: Status
    detail: str


@click.command()
@click.option("--deep", is_flag=True, help="Also train the tiny model for two steps and check it.")
@click.option(
    "--calibrate",
    type=click.Choice(["short", "full"]),
    help="Instead, try every statistical procedure on simulated data: seconds, or many minutes.",
)
@click.option(
    "--calibration-seed", type=int, help="Seed of that simulation [default: a fresh one]."
)
@json_option
def command(deep: bool, calibrate: str | None, calibration_seed: int | None, as_json: bool) -> int:
    """Check this machine: Python, extras, torch, GPU, the tiny model, the cache.

    Exit code 1 when something that is needed failed. An extra that is absent is no failure.

    \b
    Examples:
      cupel doctor
      cupel doctor --deep
      cupel doctor --calibrate short
    """
    if calibrate is not None:
        return calibration(calibrate, calibration_seed, as_json=as_json)
    checks = [check_python(), *check_packages(), *check_torch(), *check_models()]
    checks += check_executors()
    if deep:
        checks.append(check_training())
    if as_json:
        console.print_json(checks)
    else:
        console.table(["check", "status", "detail"], [(c.name, c.status, c.detail) for c in checks])
    return EXIT_NO if any(check.status == "failed" for check in checks) else 0


def calibration(tier: str, seed: int | None, *, as_json: bool) -> int:
    """Run the calibration and print every rate beside its band; 1 when one lies outside."""
    from cupel.stats.calibration import Tier, calibrate

    fresh = int.from_bytes(os.urandom(4), "little") if seed is None else seed
    report = calibrate(cast(Tier, tier), seed=fresh)
    if as_json:
        console.print_json({"tier": report.tier, "seed": report.seed, "rows": list(report.rows)})
    else:
        columns = ["procedure", "cell", "kind", "rate", "band", "in band"]
        rows: list[list[console.Cell]] = [
            [
                *(row.procedure, row.cell, row.kind, f"{row.rate:.4f}"),
                *(f"{row.low:.4f} to {row.high:.4f}", "yes" if row.ok else "NO"),
            ]
            for row in report.rows
        ]
        console.table(columns, rows)
        console.line(
            f"{len(report.rows)} rates of {report.rows[0].replications} or more simulations, "
            f"{len(report.breaches)} outside their band; seed {report.seed}"
        )
        console.line("controls are faulty procedures and must fail: their bands say how badly")
    return 0 if report.ok else EXIT_NO


def check_python() -> Check:
    """Say which Python runs."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    status: Status = "ok" if sys.version_info >= (3, 11) else "failed"
    return Check(name="python", status=status, detail=f"{version}, {os.cpu_count()} CPUs")


def check_packages() -> list[Check]:
    """Say which dependencies and extras are installed, and in which versions."""
    groups: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("cupel") or []:
        name, _, marker = requirement.partition(";")
        package = re.split(r"[^A-Za-z0-9._-]", name.strip(), maxsplit=1)[0]
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", marker)
        groups.setdefault(extra.group(1) if extra else "core", []).append(package)
    return [_check_group(group, packages) for group, packages in groups.items() if group != "dev"]


def _check_group(group: str, packages: list[str]) -> Check:
    found, missing = [], []
    for package in packages:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if not missing:
        return Check(name=f"{group} packages", status="ok", detail=", ".join(found))
    mend = "pip install cupel" if group == "core" else f"pip install 'cupel[{group}]'"
    return Check(
        name=f"{group} packages",
        status="failed" if group == "core" else "absent",
        detail=f"missing: {', '.join(missing)}; {mend}",
    )


def check_torch() -> list[Check]:
    """Import torch in a child process; say its threads and GPUs."""
    try:
        importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return [
            Check(
                name="torch",
                status="absent",
                detail="needed by the tiny and torch backends: pip install 'cupel[torch]'",
            )
        ]
    done = subprocess.run(
        [sys.executable, "-c", TORCH_PROBE], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return [Check(name="torch", status="failed", detail=f"cannot be imported: {last}")]
    facts = json.loads(done.stdout.splitlines()[-1])
    right = facts["product"] == 512.0
    gpu = f"{facts['gpus']} x {facts['gpu']}" if facts["gpu"] else "none; runs use the CPU"
    return [
        Check(
            name="torch",
            status="ok" if right else "failed",
            detail=f"works; {facts['threads']} threads by default, a run uses 1 unless told",
        ),
        Check(name="gpu", status="ok" if facts["gpu"] else "absent", detail=gpu),
    ]


def check_models() -> list[Check]:
    """Ask a child process for the built models and their hashes; write into their cache."""
    done = _cupel("models", "list", "--json")
    if done.returncode != 0:
        return [Check(name="tiny model", status="absent", detail=_last_line(done))]
    listed = json.loads(done.stdout)
    checks = [
        Check(
            name="tiny model",
            status="ok",
            detail=f"{model['folder']}, weights sha256 {model['weights_sha256'][:16]}",
        )
        for model in listed["models"]
    ]
    if not checks:
        detail = "not built; cupel models build tiny"
        checks = [Check(name="tiny model", status="failed", detail=detail)]
    return [*checks, check_writable(Path(listed["cache"]))]


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


def check_writable(folder: Path) -> Check:
    """Write into the folder where built models are kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check(name="cache", status="failed", detail=f"{folder}: {error.strerror}")
    return Check(name="cache", status="ok", detail=f"{folder} is writable")


def check_training() -> Check:
    """Train the tiny model for two steps; its ratio gate must hold before the first update."""
    with tempfile.TemporaryDirectory(prefix="cupel-doctor-") as folder:
        words = ["--backend", "tiny", "--max-steps", "2", "--batch-size", "4"]
        words += ["--eval-problems", "32", "--no-evaluation.greedy"]
        words += ["--evaluation.start-band", "none", "--log-dir", str(Path(folder) / "run")]
        done = _cupel("train", *words)
    if done.returncode == 0:
        return Check(name="training", status="ok", detail="2 steps trained; the ratio gate held")
    return Check(name="training", status="failed", detail=_last_line(done))


def _cupel(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "cupel", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.strip().splitlines()
    return lines[-1].removeprefix("cupel: ") if lines else "no message"
