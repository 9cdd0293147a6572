"""A run in Weights & Biases, online or offline, under one id however often it is followed.

Knows W&B's client. Refuses to send anything but the rows and the settings: no code, no console, no
machine statistics, no completions. W&B's client hands rows to a process of its own, which may lose
the last ones when it is killed; so what counts as sent is what the server, or the offline file,
holds when the run is opened again.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from cupel.errors import MissingExtraError, UsageError
from cupel.report.trackers.protocol import TrackedRun, Value

try:
    import wandb

    from cupel.report.trackers.wandb_files import last_step, offline_files
except ImportError:
    raise MissingExtraError("following with W&B", "track") from None

_TAG_CHARACTERS = 64
_SERVICE_WAIT_S = 60.0


class WandbRun:
    """One run, open in W&B."""

    def __init__(self, run: TrackedRun, *, offline: bool) -> None:
        _wait_for_service_of(run.predecessor)
        self._last_step: int | None = None
        if offline:
            self._last_step = last_step(run.folder, run.run_id)
            _wait_for_another_second(run)
        self._run = _begin(run, "offline" if offline else "online")
        if not offline and self._run.starting_step > 0:
            self._last_step = self._run.starting_step - 1

    @property
    def last_step(self) -> int | None:
        """Step of the last row that the server, or the offline file, held at opening."""
        return self._last_step

    def log(self, step: int, values: Mapping[str, Value]) -> None:
        """Take one row, at once and whole: W&B would hold it back until the next step."""
        self._run.log(dict(values), step=step, commit=True)

    def commit(self) -> None:
        """Leave it to W&B's process, which has every row already."""

    def close(self, *, failed: bool) -> None:
        """Hand everything on; the run is `failed` or `finished` in W&B until it is opened again."""
        self._run.finish(exit_code=1 if failed else 0)


def _begin(run: TrackedRun, mode: Literal["online", "offline"]) -> Any:
    try:
        return wandb.init(
            project=run.project,
            entity=run.entity,
            id=run.run_id,
            name=run.name,
            group=run.group,
            tags=[tag[:_TAG_CHARACTERS] for tag in run.tags],
            config=dict(run.config),
            dir=str(run.folder),
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
                disable_job_creation=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise UsageError(
            f"W&B: {_one_line(error)}; `wandb login` or WANDB_API_KEY logs in, --offline needs none"
        ) from None
    except wandb.Error as error:
        raise UsageError(f"W&B: {_one_line(error)}; the rows stay, follow again later") from None


def _wait_for_another_second(run: TrackedRun) -> None:
    """Let the clock move on: W&B names an offline folder by the second it was begun in."""
    begun = {path.parent.name for path in offline_files(run.folder, run.run_id)}
    while f"offline-run-{time.strftime('%Y%m%d_%H%M%S')}-{run.run_id}" in begun:
        time.sleep(0.05)


def _wait_for_service_of(follower: int | None) -> None:
    """Wait for the process to which a killed follower handed its rows: it may be writing still."""
    deadline = time.monotonic() + _SERVICE_WAIT_S
    while follower is not None and _has_service(follower):
        if time.monotonic() > deadline:
            raise UsageError(
                f"W&B: the process that served follower {follower} is still at work after "
                f"{_SERVICE_WAIT_S:.0f} s; wait for it, or stop it"
            )
        time.sleep(0.05)


def _has_service(follower: int) -> bool:
    """Say whether a `wandb-core --pid FOLLOWER` is alive on this machine."""
    words = ("wandb-core", f"--pid {follower}")
    return any(all(word in line for word in words) for line in _command_lines())


def _command_lines() -> list[str]:
    proc = Path("/proc")
    if not (proc / "self").exists():
        listed = subprocess.run(
            ["ps", "-A", "-o", "command="], capture_output=True, text=True, check=False
        )
        return [f"{line} " for line in listed.stdout.splitlines()]
    found = []
    for path in proc.glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue  # it ended in the meantime
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
