"""A short probe of a run: a few real steps in a temporary folder, in a process of its own.

Knows how to start it, how to end it at a deadline, and what it measured by then. Refuses to write
into the study's folder, and to know what a step is: the recipe's `probe` does the work.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.config import validate
from cupel.errors import CupelError, RunError, UsageError
from cupel.lab.checkpoint import Checkpoints
from cupel.lab.estimate import Measured
from cupel.lab.plan import RunSpec
from cupel.lab.randomness import Randomness
from cupel.lab.recipe import Probing, RunContext, Slot
from cupel.lab.recorder import Recorder
from cupel.lab.registry import load_recipe
from cupel.lab.run_dir import RunFolder

LINES = "probe.jsonl"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a probe measured.

    Attributes:
        measured: in the order it was done.
        import_s: seconds until the process had started and imported the run's modules.
        peak_bytes: largest memory of the process, and of its largest child beside it.
        gpu_bytes: largest memory held on the accelerator; None without one.
        wall_s: seconds of the whole probe.
        complete: False when the deadline ended it; what was measured by then still counts.
    """

    measured: Sequence[Measured]
    import_s: float
    peak_bytes: int
    gpu_bytes: int | None
    wall_s: float
    complete: bool


def run_probe(spec: RunSpec, *, slot: Slot | None = None, deadline_s: float = 120.0) -> Probe:
    """Probe one run of a plan.

    Raises:
        UsageError: the recipe has no probe, or nothing was measured within the deadline.
        RunError: the run fails.
    """
    if not isinstance(load_recipe(spec.recipe), Probing):
        raise UsageError(
            f"recipe '{spec.recipe}' does not say how to probe it; plan without --probe"
        )
    share = slot or Slot()
    with tempfile.TemporaryDirectory(prefix="cupel-probe-") as name:
        folder = Path(name)
        RunFolder(folder).create(spec)
        started = time.perf_counter()
        complete = _run_child(folder, share, deadline_s)
        wall_s = time.perf_counter() - started
        lines = _lines(folder)
    failures = [line["failed"] for line in lines if "failed" in line]
    if failures:
        raise RunError(f"probe of condition '{spec.condition}': {failures[0]}")
    measured = [
        Measured(what=line["what"], seconds=line["seconds"], counts=line["counts"])
        for line in lines
        if line["what"] != "import"
    ]
    if not any(each.what == "step" for each in measured):
        raise UsageError(
            f"probe of condition '{spec.condition}': no step ended within {deadline_s:g} s; raise "
            "--probe-seconds, or plan without --probe"
        )
    return Probe(
        measured=measured,
        import_s=sum(line["seconds"] for line in lines if line["what"] == "import"),
        peak_bytes=max(line["peak_bytes"] for line in lines),
        gpu_bytes=max((line["gpu_bytes"] or 0 for line in lines), default=0) or None,
        wall_s=wall_s,
        complete=complete,
    )


def _run_child(folder: Path, slot: Slot, deadline_s: float) -> bool:
    """Run the child to its end or to the deadline; say whether it came to its end."""
    environment = {name: str(slot.threads) for name in _THREADS}
    words = [str(folder), slot.device, str(slot.threads), repr(time.time())]
    with (folder / "log.txt").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "cupel.lab.probe", *words],
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            start_new_session=True,  # so that its own children end with it
        )
        try:
            child.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode != 0 and not any("failed" in line for line in _lines(folder)):
        said = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
        raise RunError(f"probe: {said[-1] if said else f'exit code {child.returncode}'}")
    return True


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / LINES
    if not path.is_file():
        return []
    whole = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in whole if line.endswith("\n")]


def measure(folder: Path, slot: Slot, started: float) -> None:
    """Do what the recipe's probe does, and write a line for each thing measured.

    Args:
        started: time of day at which this process was started.

    Raises:
        CupelError: the run fails.
    """
    config = RunFolder(folder).config()
    for name in config["preload"]:
        importlib.import_module(name)
    recipe = load_recipe(config["recipe"])
    with (folder / LINES).open("w", buffering=1) as out:

        def write(each: Measured) -> None:
            line = {**dataclasses.asdict(each), **_memory()}
            out.write(json.dumps(line) + "\n")

        write(Measured(what="import", seconds=time.time() - started))
        resolved = validate(recipe.config_type, config["resolved"], where="probe")
        with Recorder(folder, recipe.streams) as recorder:
            context = RunContext(
                folder=folder,
                condition=config["condition"],
                seed=config["seed"],
                randomness=Randomness(config["seed"]),
                recorder=recorder,
                checkpoints=Checkpoints(folder / "checkpoints", fsync=False),
                resume=None,
                slot=slot,
            )
            assert isinstance(recipe, Probing)
            try:
                for each in recipe.probe(resolved, context):
                    write(each)
            except CupelError as error:
                out.write(json.dumps({"failed": str(error)}) + "\n")
                raise


def _memory() -> dict[str, int | None]:
    """Return the peak memory so far; an accelerator's where torch was imported and uses one."""
    unit = 1 if sys.platform == "darwin" else 1024
    own, child = (
        resource.getrusage(who).ru_maxrss * unit
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_initialized()
    gpu = torch.cuda.max_memory_reserved() if torch is not None and on_gpu else None
    return {"peak_bytes": own + child, "gpu_bytes": gpu}


def main(argv: Sequence[str]) -> int:
    """Probe the run in a folder: `FOLDER DEVICE THREADS TIME_OF_START`."""
    folder, device, threads, started = argv
    try:
        measure(Path(folder), Slot(device=device, threads=int(threads)), float(started))
    except CupelError:
        return 1  # its message is in the file
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
