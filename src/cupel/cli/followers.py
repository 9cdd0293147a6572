"""Followers started beside a study or a run: processes of their own that may die unnoticed.

Knows how to start `cupel follow` and to tell, once, that it has ended with an error. Refuses to let
a tracker stop or change a run: it is started, and never waited for.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cupel.cli import console
from cupel.cli.app import Stop

if TYPE_CHECKING:
    from cupel.lab.study import Follow

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
TrackerWish = dict[str, Any]
"""What flags add to a study file: its `[follow]` table, or nothing."""

LOG = "follow.log"
_EXTRAS = {"wandb": "track", "tensorboard": "tensorboard", "trackio": "trackio"}
_STARTED: list[subprocess.Popen[bytes]] = []
"""Followers of this process, kept so that none is waited for when it is forgotten."""


def wandb_options(command: CommandT) -> Any:
    """Decorate a command whose runs W&B may follow; the command gets the wish as `tracker`."""

    @wraps(command)
    def with_tracker(
        *args: Any,
        wandb_project: str | None,
        wandb_entity: str | None,
        wandb_offline: bool,
        **given: Any,
    ) -> Any:
        if wandb_project is None and (wandb_offline or wandb_entity is not None):
            raise Stop("--wandb-entity and --wandb-offline go with --wandb-project NAME")
        wish: dict[str, Any] = {}
        if wandb_project is not None:
            wish = {"tracker": "wandb", "project": wandb_project, "offline": wandb_offline}
            wish |= {"entity": wandb_entity} if wandb_entity is not None else {}
            wish = {"follow": wish}
        return command(*args, tracker=wish, **given)

    decorated: Any = with_tracker
    for option in (
        click.option("--wandb-offline", is_flag=True, help="W&B's files only; nothing is sent."),
        click.option("--wandb-entity", help="W&B entity [default: yours]."),
        click.option(
            "--wandb-project",
            help="Send the rows to this W&B project while they are written, from a process beside.",
        ),
    ):
        decorated = option(decorated)
    return decorated


@contextmanager
def following(
    folder: Path, follow: Follow, *, name: str, run_name: str | None = None
) -> Iterator[Callable[[], None]]:
    """Start the follower of a folder, if one is wished; yields what tells that it has failed.

    The follower goes on after the block until everything is sent, and ends by itself.
    """
    if follow.tracker == "none":
        yield _nothing_to_tell
        return
    later = f"the runs are not affected; cupel follow {shlex.quote(str(folder))} sends them later"
    if importlib.util.find_spec(follow.tracker) is None:
        extra = _EXTRAS[follow.tracker]
        console.warn(f"not followed: {follow.tracker} needs pip install 'cupel[{extra}]'; {later}")
        yield _nothing_to_tell
        return
    project = follow.project or name
    process = _start(folder, follow, project, run_name)
    console.note(f"followed into {follow.tracker}, project {project} (words: {folder / LOG})")
    told = False

    def tell() -> None:
        nonlocal told
        if not told and process.poll():
            told = True
            words = (folder / LOG).read_text(errors="replace").splitlines() or ["no word"]
            console.warn(f"not followed: {words[-1].removeprefix('cupel: ')}; {later}")

    try:
        yield tell
    finally:
        tell()


def _nothing_to_tell() -> None:
    """Stand in for the follower that nobody wished for."""


def _start(
    folder: Path, follow: Follow, project: str, run_name: str | None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cupel", "follow", str(folder), "--tracker", follow.tracker]
    command += ["--project", project, "--until-exit-of", str(os.getpid())]
    command += ["--entity", follow.entity] * bool(follow.entity)
    command += ["--run-name", run_name] if run_name is not None else []
    command += ["--offline"] * follow.offline
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the study; the rest is still to be sent
        )
    _STARTED.append(process)
    return process
