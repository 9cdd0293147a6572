"""`--lr-from`: every arm of a campaign at the learning rate that a sweep chose for it.

Knows sweep folders, and which flags contradict the option. Refuses to let an arm run at a rate
that nobody tuned, and a campaign on the seeds of its own sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from cupel.cli import console
from cupel.cli.app import Stop

lr_from_option = click.option(
    "--lr-from",
    "lr_from",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="SWEEP",
    help="Folder of a cupel sweep: each arm at the rate chosen for it. Repeatable.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRates:
    """The rates of a study's arms by label, and what manifest.json keeps of them.

    Both are empty without `--lr-from`.
    """

    by_label: Mapping[str, float] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)


def arm_rates(
    sweeps: Sequence[Path],
    labels: Sequence[str],
    *,
    shared: Mapping[str, Any],
    seeds: Sequence[int],
    under: Mapping[str, Any] | None = None,
    given: Mapping[str, object] | None = None,
) -> ArmRates:
    """Return each arm's tuned rate, with warnings told.

    Args:
        shared: the settings all arms will share, as passed.
        under: defaults that the study lays under them.
        given: flags that set a rate by hand, with their values; None is not given.

    Raises:
        Stop: a rate was also given by hand.
        DataError: a folder holds no complete sweep.
        ConfigError: an arm has no tuned rate, the seeds are the sweep's, or the backend differs.
    """
    if not sweeps:
        return ArmRates()
    for flag, value in {**(given or {}), "--lr": shared.get("lr")}.items():
        if value is not None:
            raise Stop(
                f"{flag} {value} and --lr-from {sweeps[0]} both set a learning rate; give one"
            )
    from cupel.config import merge
    from cupel.lab.files import file_sha256, read_json
    from cupel.rlvr.tuned import (
        merge_rates,
        rate_of,
        refuse_probe_seeds,
        tuned_rates,
        tuning_warnings,
    )

    files = [_results_file(path) for path in sweeps]
    rates = merge_rates(tuned_rates(read_json(path), source=str(path)) for path in files)
    chosen = {label: rate_of(label, rates) for label in labels}
    refuse_probe_seeds(list(chosen.values()), seeds)
    for text in tuning_warnings(list(chosen.values()), merge(under or {}, shared)):
        console.warn(text)
    digests = {str(path): file_sha256(path) for path in files}
    arms = {
        label: {
            "lr": rate.lr,
            "source": rate.source,
            "sha256": digests[rate.source],
            "probe_seeds": rate.probe_seeds,
            "edge_of_grid": rate.at_edge,
        }
        for label, rate in chosen.items()
    }
    return ArmRates(
        by_label={label: rate.lr for label, rate in chosen.items()},
        record={"learning_rates_from": arms},
    )


def _results_file(path: Path) -> Path:
    from cupel.analysis.probes import RESULTS, results_path

    file = results_path(path) if path.is_dir() else path
    if not file.is_file():
        stamped = sorted(path.parent.glob(f"{path.name}_*/{RESULTS}"))
        way = (
            f"did you mean {stamped[-1].parent}?"
            if stamped
            else f"run cupel sweep --sweep-root {path}"
        )
        raise Stop(f"--lr-from {path}: no {RESULTS} there; {way}")
    return file
