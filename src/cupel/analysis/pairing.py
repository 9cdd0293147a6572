"""Which runs of two arms belong together.

Knows seeds. Refuses to pair runs whose seeds are known and differ; where seeds are unknown it
pairs by order and says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cupel.errors import DataError
from cupel.lab.files import read_json
from cupel.lab.store import RunRecord, read_run

_SEED_IN_NAME = re.compile(r"_s(\d+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Runs of two arms, paired.

    Attributes:
        pairs: (seed or None, baseline run, candidate run), by ascending seed.
        by: `seed`; `order` when seeds are unknown; `none` when the runs do not pair.
        unpaired: runs without a partner.
        notes: what a reader must know about the pairing.
    """

    pairs: tuple[tuple[int | None, RunRecord, RunRecord], ...]
    by: Literal["seed", "order", "none"]
    unpaired: tuple[RunRecord, ...]
    notes: tuple[str, ...]


def read_arm(folders: Sequence[Path | str], *, name: str) -> list[RunRecord]:
    """Read the runs of one arm.

    Raises:
        DataError: no folder, a folder twice, a mistyped folder, or a damaged file.
    """
    if not folders:
        raise DataError(f"the {name} arm has no run folder; give at least one")
    seen: set[Path] = set()
    for folder in folders:
        resolved = Path(folder).resolve()
        if resolved in seen:
            raise DataError(f"{folder}: named twice in the {name} arm; every run counts once")
        seen.add(resolved)
    return [read_run(folder) for folder in folders]


def seed_of(run: RunRecord) -> int | None:
    """Return a run's seed: from its record, its config.json, or a folder name ending in _s42."""
    if run.seed is not None:
        return run.seed
    config = run.config or (
        read_json(run.folder / "config.json") if (run.folder / "config.json").is_file() else {}
    )
    seed = config.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool):
        return seed
    match = _SEED_IN_NAME.search(run.folder.name)
    return int(match.group(1)) if match else None


def pair_runs(baseline: Sequence[RunRecord], candidate: Sequence[RunRecord]) -> Pairing:
    """Pair the runs of two arms by seed, or by order where no seed is known.

    Raises:
        DataError: a seed stands twice in one arm.
    """
    seeds_b, seeds_c = [seed_of(run) for run in baseline], [seed_of(run) for run in candidate]
    if None not in seeds_b and None not in seeds_c:
        by_seed_b = _by_seed(baseline, seeds_b, "baseline")
        by_seed_c = _by_seed(candidate, seeds_c, "candidate")
        return _pair_by_seed(by_seed_b, by_seed_c)
    if len(baseline) == len(candidate):
        return Pairing(
            pairs=tuple((None, b, c) for b, c in zip(baseline, candidate, strict=True)),
            by="order",
            unpaired=(),
            notes=("The seeds of some runs are not known; runs were paired in the order given.",),
        )
    note = (
        f"{len(baseline)} baseline and {len(candidate)} candidate runs with unknown seeds "
        "cannot be paired."
    )
    return Pairing(pairs=(), by="none", unpaired=(*baseline, *candidate), notes=(note,))


def _by_seed(
    runs: Sequence[RunRecord], seeds: Sequence[int | None], name: str
) -> dict[int, RunRecord]:
    by_seed: dict[int, RunRecord] = {}
    for run, seed in zip(runs, seeds, strict=True):
        assert seed is not None
        if seed in by_seed:
            raise DataError(
                f"{run.folder}: seed {seed} stands twice in the {name} arm "
                f"(also {by_seed[seed].folder}); every seed counts once"
            )
        by_seed[seed] = run
    return by_seed


def _pair_by_seed(baseline: dict[int, RunRecord], candidate: dict[int, RunRecord]) -> Pairing:
    common = sorted(baseline.keys() & candidate.keys())
    lonely = sorted(baseline.keys() ^ candidate.keys())
    notes = []
    if lonely:
        notes.append(f"Without a partner in the other arm: seeds {', '.join(map(str, lonely))}.")
    return Pairing(
        pairs=tuple((seed, baseline[seed], candidate[seed]) for seed in common),
        by="seed" if common else "none",
        unpaired=tuple(baseline.get(seed) or candidate[seed] for seed in lonely),
        notes=tuple(notes),
    )
