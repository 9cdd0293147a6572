"""What a run folder says of a checkpoint that lies on a Tinker server.

Knows one small JSON file. Refuses checkpoints of another server, model or rank: restored into
them, a run would go on as another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cupel.errors import DataError

STATE = "tinker.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """Adapters and optimizer on a server.

    Attributes:
        path: the server's name for them. sdk: version of the client that saved them.
        spent: what the run had asked of the server by then.
    """

    path: str
    server: str
    model: str
    rank: int
    sdk: str
    spent: Mapping[str, int]

    def write(self, folder: Path) -> None:
        """Write the file."""
        (folder / STATE).write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


def read_saved(folder: Path, *, server: str, model: str, rank: int) -> Saved:
    """Read the file of a checkpoint of this server, model and rank.

    Raises:
        DataError: no such file, a damaged one, or one of others.
    """
    try:
        found = Saved(**json.loads((folder / STATE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder}: not a saved Tinker policy ({error})") from None
    if (found.server, found.model, found.rank) != (server, model, rank):
        raise DataError(
            f"{folder}: saved by {found.server}, model '{found.model}', rank {found.rank}; this "
            f"run uses {server}, model '{model}', rank {rank}"
        )
    return found
