"""Following runs in a terminal: a table that moves for a person, lines of changes for a file.

Knows how often to look and when there is nothing left to see. Refuses to touch a run, and to die
because a file is being written at this moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from cupel.cli import console
from cupel.cli.views import RunState
from cupel.errors import DataError

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 30.0
"""How often a file is told where everything stands though no run began or ended."""
_ENDED = ("done", "failed", "missing")

States = Callable[[], Sequence[RunState]]


class Screen(Protocol):
    """What shows the states of runs."""

    def show(self, states: Sequence[RunState]) -> None:
        """Show the states as they are now."""
        ...

    def close(self) -> None:
        """Leave the screen in order."""
        ...


def follow(title: str, states: States, *, every_s: float = LOOK_EVERY_S) -> None:
    """Show runs until each has come to its end; Ctrl-C ends the showing, not the runs.

    Raises:
        DataError: a file is damaged when first read.
    """
    found = states()
    screen: Screen = LiveTable(title) if console.is_terminal() else Lines(title)
    try:
        screen.show(found)
        while not all(state.status in _ENDED for state in found):
            time.sleep(every_s)
            try:
                found = states()
            except DataError:  # replaced while it was read; the next look tells
                continue
            screen.show(found)
    except KeyboardInterrupt:
        pass
    finally:
        screen.close()


class LiveTable:
    """A table that is drawn again in place."""

    def __init__(self, title: str) -> None:
        from rich.live import Live

        self._title = title
        self._live = Live(auto_refresh=False, vertical_overflow="ellipsis")
        self._live.start()

    def show(self, states: Sequence[RunState]) -> None:
        """Draw the states; in a low window those that run come first."""
        self._live.update(self._table(states), refresh=True)

    def close(self) -> None:
        """Leave the last table on the screen."""
        self._live.stop()

    def _table(self, states: Sequence[RunState]) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        from cupel.cli.status import COLUMNS, run_rows, tally

        room = max(4, self._live.console.height - 6)
        shown = list(states)
        if len(shown) > room:
            order = {"running": 0, "failed": 1, "planned": 2}
            shown = sorted(shown, key=lambda state: order.get(state.status, 3))[:room]
        left = len(states) - len(shown)
        foot = tally(states) + (f"; {left} more not shown" if left else "")
        return Group(console.rich_table(COLUMNS, run_rows(shown), self._title), Text(foot))


class Lines:
    """A line for every run that changed its status, and now and then one for all."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._shown: dict[str, str] = {}
        self._told: tuple[str, int] = ("", 0)
        self._next_s = 0.0

    def show(self, states: Sequence[RunState]) -> None:
        """Print what changed, and where everything stands."""
        from cupel.cli.status import note, shown_status, tally

        for state in states:
            status, before = shown_status(state), self._shown.get(state.name)
            self._shown[state.name] = status
            if before is not None and before != status:
                why = note(state) if status in ("failed", "stale") else state.words()
                console.line(f"{state.name}: {status}, {why}")
        told = (tally(states), sum(state.steps_done for state in states))
        due = time.monotonic() >= self._next_s and told != self._told
        if due or told[0] != self._told[0]:
            console.line(f"{self._title}: {told[0]}; {told[1]} steps done")
            self._told, self._next_s = told, time.monotonic() + TELL_EVERY_S

    def close(self) -> None:
        """Nothing to tidy."""
