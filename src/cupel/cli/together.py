"""One run folder, executed by the processes that `torchrun -m cupel.cli.together` started.

Knows the words of that command. Refuses to plan: the folder is one of a planned study, and every
process must see it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cupel.errors import CupelError


def main(words: list[str] | None = None) -> int:
    """Run or continue one run folder; 0 when it is complete, 3 when it failed, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="torchrun -m cupel.cli.together", description=__doc__)
    parser.add_argument("folder", type=Path, help="run folder of a planned study")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda: one GPU a process")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each process")
    parser.add_argument("--fresh", action="store_true", help="begin again")
    parser.add_argument("--no-fsync", action="store_true", help="faster; a power cut may lose rows")
    given = parser.parse_args(words)
    from cupel.lab.ranks import ALONE
    from cupel.lab.recipe import Slot
    from cupel.lab.together import run_together
    from cupel.policy.ranks import current_ranks, joined

    try:
        with joined(given.device) as device:
            slot = Slot(device=device, threads=given.threads)
            ranks = current_ranks() or ALONE
            fsync = not given.no_fsync
            status = run_together(given.folder, slot, ranks, fresh=given.fresh, fsync=fsync)
    except CupelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if status == "done" else 3


if __name__ == "__main__":
    from cupel.policy.ranks import leave

    leave(main())
