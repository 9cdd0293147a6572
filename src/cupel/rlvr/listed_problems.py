"""A finite list of problems: what is held out, and in which order training goes through the rest.

Knows splits and epochs. Refuses to know files and columns. Training goes through all problems once
an epoch, in an order that comes from the caller's generator; held-out problems stand in the order
of their hash, whatever the order of the source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from cupel.config import canonical_json
from cupel.errors import DataError
from cupel.rlvr.problem import Problem, is_held_out, text_hash
from cupel.rlvr.problem_sources import ReadProblems


class ListedProblems:
    """The problems of a file or a data set."""

    def __init__(self, read: ReadProblems, *, held_out_fraction: float) -> None:
        """Split the problems.

        Args:
            held_out_fraction: share that is held out where the source has no held-out problems.

        Raises:
            DataError: nothing is left to train on.
        """
        if read.held_out is None:
            held_out = {
                text: problem
                for text, problem in read.main.items()
                if is_held_out(text, held_out_fraction)
            }
        else:
            held_out = dict(read.held_out)
        self._where = read.where
        self._own_split = read.held_out is not None
        self._held_out = [held_out[text] for text in sorted(held_out, key=text_hash)]
        self._training = [problem for text, problem in read.main.items() if text not in held_out]
        if not self._training:
            raise DataError(
                f"{read.where}: all {len(read.main)} problems fall into the held-out split; "
                "lower problems.held_out_fraction or give more problems"
            )
        self._remaining: list[int] = []
        notes = [
            *read.notes,
            f"{read.where}: {len(self._training)} training and {len(self._held_out)} held-out "
            "problems",
        ]
        both = len(read.main) - len(self._training)
        if self._own_split and both:
            notes.append(f"{read.where}: {both} training problems are held out too; not trained on")
        self.notes: Sequence[str] = tuple(notes)

    def training(self, rng: np.random.Generator, count: int) -> list[Problem]:
        """Take the next `count` problems; every problem comes once an epoch."""
        taken: list[Problem] = []
        while len(taken) < count:
            if not self._remaining:
                self._remaining = rng.permutation(len(self._training)).tolist()
            wanted = count - len(taken)
            taken += [self._training[index] for index in self._remaining[:wanted]]
            self._remaining = self._remaining[wanted:]
        return taken

    def held_out(self, count: int) -> list[Problem]:
        """Return the `count` held-out problems of lowest hash, whatever the source's order.

        Raises:
            DataError: the source has not so many held-out problems.
        """
        if count > len(self._held_out):
            more = "" if self._own_split else " or raise problems.held_out_fraction"
            raise DataError(
                f"{self._where}: {len(self._held_out)} held-out problems, {count} were asked for; "
                f"lower evaluation.problems{more}"
            )
        return self._held_out[:count]

    @property
    def everything(self) -> Sequence[Problem]:
        """All problems: those of training, then the held-out ones."""
        return [*self._training, *self._held_out]

    @cached_property
    def sha256(self) -> str:
        """Hash of every problem with its prompt and answer, in the order of the source."""
        digest = hashlib.sha256()
        for split in (self._training, self._held_out):
            for problem in split:
                digest.update(canonical_json([problem.prompt, problem.answer]).encode())
            digest.update(b"\n")
        return digest.hexdigest()

    def state(self) -> dict[str, Any]:
        """Return the rest of the running epoch, and the hash of the problems it indexes."""
        return {"remaining": list(self._remaining), "sha256": self.sha256}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue inside the epoch that `state` was taken in.

        Raises:
            DataError: the state does not fit these problems.
        """
        if state.get("sha256", self.sha256) != self.sha256:
            raise DataError(
                f"{self._where}: the problems changed since the checkpoint was taken; resume with "
                "the file or data set the run began with, or begin again in another folder"
            )
        remaining = state.get("remaining")
        if not isinstance(remaining, list) or not all(
            isinstance(index, int) and 0 <= index < len(self._training) for index in remaining
        ):
            raise DataError(
                f"{self._where}: the checkpoint's problem order does not fit these problems; "
                "resume with the file or data set the run began with"
            )
        self._remaining = list(remaining)
