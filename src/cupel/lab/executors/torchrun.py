"""Running a study with several processes for each run, started by torch's launcher.

Knows how to start, follow and end the launcher. Refuses to know what the processes say to each
other; the module they run does.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cupel.errors import MissingExtraError
from cupel.lab.executors.base import Execution, Task
from cupel.lab.executors.fleet import Ended, drive
from cupel.lab.executors.options import TorchrunOptions
from cupel.lab.run_dir import RunFolder

LOG = "torchrun.log"
END_S = 15.0
"""How long the launcher may take to end its processes before all of them are killed."""
TAIL_LINES = 3


def run_torchrun(execution: Execution, options: TorchrunOptions, *, at_a_time: int) -> None:
    """Execute every due run, each in `options.ranks` processes.

    Raises:
        MissingExtraError: torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("executor 'torchrun'", "torch")
    drive(execution, TorchrunFleet(execution, options), at_a_time=at_a_time)


class TorchrunFleet:
    """The launchers that are running, by run."""

    def __init__(self, execution: Execution, options: TorchrunOptions) -> None:
        self._execution = execution
        self._options = options
        self._running: dict[int, tuple[subprocess.Popen[bytes], RunFolder, int]] = {}

    def hand_out(self, due: Sequence[tuple[int, Task]]) -> None:
        """Start a launcher for each run."""
        for number, task in due:
            log = task.run.path / LOG
            earlier = log.stat().st_size if log.is_file() else 0
            self._running[number] = (self._start(task), task.run, earlier)

    def poll(self, wait_s: float) -> Sequence[Ended]:
        """Return the runs whose launcher has ended."""
        found = self._ended()
        if not found:
            time.sleep(wait_s)
            found = self._ended()
        return found

    def news(self) -> Mapping[int, Mapping[str, Any] | None] | None:
        """Return None: the run folders tell."""
        return None

    def stop(self) -> None:
        """End every launcher and its processes."""
        launchers = [launcher for launcher, _, _ in self._running.values()]
        for launcher in launchers:
            launcher.terminate()
        for launcher in launchers:
            try:
                launcher.wait(END_S)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(launcher.pid, signal.SIGKILL)
                launcher.wait()
        self._running.clear()

    def _start(self, task: Task) -> subprocess.Popen[bytes]:
        options, folder = self._options, task.run.path.resolve()
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(options.ranks), "-m", options.program, str(folder)),
            *("--device", options.device, "--threads", str(options.threads)),
            *(["--fresh"] if task.fresh else []),
            *([] if self._execution.fsync else ["--no-fsync"]),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        with (folder / LOG).open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def _ended(self) -> list[Ended]:
        found = []
        for number, (launcher, run, earlier) in list(self._running.items()):
            code = launcher.poll()
            if code is not None:
                del self._running[number]
                died = None if code == 0 else _why(code, run.path / LOG, earlier)
                found.append(Ended(number=number, died=died))
        return found


def _why(code: int, log: Path, earlier: int) -> str:
    """Say how a launcher ended, with the last words of its processes, not of earlier attempts."""
    lines = log.read_bytes()[earlier:].decode(errors="replace").splitlines()
    spoken = [line.strip() for line in lines if "Error" in line or "error:" in line]
    words = "; ".join(spoken[-TAIL_LINES:]) or "no word in its log"
    return f"the processes ended with exit code {code}: {words} ({LOG} in the run folder)"
