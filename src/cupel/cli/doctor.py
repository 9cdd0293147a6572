"""`cupel doctor`: what works on this machine, what is missing, how to mend it, what it can run.

Knows what an installation needs; `machine` knows the hardware. Refuses to stop at a missing
piece: whatever is absent or broken is a row.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import cast

import click

from cupel.cli import console
from cupel.cli.app import EXIT_NO
from cupel.cli.machine import (
    Check,
    Status,
    check_backends,
    check_compute,
    check_executors,
    check_machine,
    start_probe,
)
from cupel.cli.source import json_option


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
    """Check this machine: what is installed, what it can run, how fast, and what fits.

    Cores, memory, GPUs, extras, backends, executors, the tiny model, the cache; one second of
    measured matmul and memory-copy rates; the largest models for full fine-tuning, LoRA and
    sampling. Exit code 1 when something that is needed failed. An extra that is absent is no
    failure.

    \b
    Examples:
      cupel doctor
      cupel doctor --deep
      cupel doctor --calibrate short
    """
    if calibrate is not None:
        return calibration(calibrate, calibration_seed, as_json=as_json)
    probe = start_probe()
    checks = [check_python(), check_machine(), *check_packages(), *check_models()]
    checks += [*check_compute(probe), *check_backends(), *check_executors()]
    if deep:
        checks.append(check_training())
    if as_json:
        console.print_json(checks)
    else:
        from cupel.policy.footprint import FORMULA

        console.table(["check", "status", "detail"], [(c.name, c.status, c.detail) for c in checks])
        console.line(f"fits: {FORMULA}")
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
    return Check(name="python", status=status, detail=version)


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


def check_models() -> list[Check]:
    """List the built models and their hashes; write into their cache."""
    from cupel.cli.models import built_models
    from cupel.policy.built import cache_root

    cache = check_writable(cache_root())
    try:
        models = built_models()
    except (OSError, ValueError, KeyError) as error:
        damaged = f"a build record cannot be read: {error}; remove its folder from {cache_root()}"
        return [Check(name="tiny model", status="failed", detail=damaged), cache]
    checks = [
        Check(
            name="tiny model",
            status="ok",
            detail=f"{model['folder']}, weights sha256 {model['weights_sha256'][:16]}",
        )
        for model in models
    ]
    if not checks:
        detail = "not built; cupel models build tiny"
        checks = [Check(name="tiny model", status="failed", detail=detail)]
    return [*checks, cache]


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
