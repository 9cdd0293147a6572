"""The learning rates that sweeps chose, handed to the arms of a campaign.

Pure: the data of sweep_results.json in, a rate for each arm out. Knows which label means which
method. Refuses to guess a rate that was not tuned, and a campaign on the seeds of its own sweep.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cupel.errors import ConfigError, DataError
from cupel.rlvr.sweep import SHARED_KEYS, method_of, setting_at, shared_settings_of


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedRate:
    """The rate a sweep chose for one method.

    Attributes:
        method: see `cupel.rlvr.sweep.method_of`.
        source: the file it was read from.
        probe_seeds: seeds it was chosen on; None where the file does not say.
        grid: rates tried; empty where the file does not say.
        at_edge: whether the choice lies at an end of that grid.
        settings: settings of the probes, of `SHARED_KEYS`; empty where the file does not say.
    """

    method: str
    lr: float
    source: str
    probe_seeds: tuple[int, ...] | None
    grid: tuple[float, ...]
    at_edge: bool
    settings: Mapping[str, Any]


def tuned_rates(results: Mapping[str, Any], *, source: str) -> dict[str, TunedRate]:
    """Read the data of a sweep_results.json, one of an earlier system included; by method.

    Raises:
        DataError: it is no sweep's result, or the sweep is not complete.
        ConfigError: an algorithm in it is unknown.
    """
    best = results.get("best_lr")
    if not isinstance(best, Mapping):
        raise DataError(f"{source}: no 'best_lr' in it; --lr-from wants a folder of cupel sweep")
    if results.get("complete") is False:
        raise DataError(f"{source}: the sweep is not complete; run the same cupel sweep again")
    seeds = results.get("probe_seeds")
    rates = {}
    for algorithm, entry in best.items():
        choice = results.get("choices", {}).get(algorithm, {})
        method = method_of(algorithm)
        rates[method] = TunedRate(
            method=method,
            lr=_rate(entry, f"{source}: best_lr of '{algorithm}'"),
            source=source,
            probe_seeds=None if seeds is None else tuple(seeds),
            grid=tuple(choice.get("grid", ())),
            at_edge=bool(choice.get("edge_of_grid", False)),
            settings=dict(results.get("settings", {})),
        )
    return rates


def merge_rates(sweeps: Iterable[Mapping[str, TunedRate]]) -> dict[str, TunedRate]:
    """Lay the rates of several sweeps side by side.

    Raises:
        ConfigError: two sweeps chose a rate for the same method.
    """
    merged: dict[str, TunedRate] = {}
    for rates in sweeps:
        for method, rate in rates.items():
            if method in merged:
                raise ConfigError(
                    f"{merged[method].source} and {rate.source} both tuned {method}; give one"
                )
            merged[method] = rate
    return merged


def rate_of(label: str, rates: Mapping[str, TunedRate]) -> TunedRate:
    """Return the tuned rate of an arm.

    Raises:
        ConfigError: no sweep chose one; names the command that would.
    """
    rate = rates.get(method_of(label))
    if rate is None:
        sources = ", ".join(dict.fromkeys(one.source for one in rates.values())) or "--lr-from"
        raise ConfigError(
            f"{sources}: no learning rate was chosen for '{label}' (tuned: "
            f"{', '.join(rates) or 'nothing'}); run cupel sweep --algorithms {label} and give its "
            "folder with another --lr-from, or leave --lr-from out"
        )
    return rate


def refuse_probe_seeds(rates: Sequence[TunedRate], seeds: Sequence[int]) -> None:
    """Refuse a campaign on the seeds its rates were chosen on.

    Raises:
        ConfigError: names the seeds and the reason.
    """
    for rate in rates:
        shared = sorted(set(rate.probe_seeds or ()) & set(seeds))
        if shared:
            raise ConfigError(
                f"--seeds {','.join(map(str, shared))}: probe seeds of {rate.source}; a rate "
                "chosen on a run flatters that run, and testing on it too triples false "
                "improvements; give other --seeds"
            )


def tuning_warnings(rates: Sequence[TunedRate], shared: Mapping[str, Any]) -> list[str]:
    """Say what makes these rates less than equal footing for their arms.

    Args:
        shared: settings of the campaign, as they are laid under every arm.

    Raises:
        ConfigError: a rate was tuned on another backend.
    """
    ours = shared_settings_of(shared)
    warnings = [text for rate in rates for text in _doubts(rate, ours)]
    if len({rate.grid for rate in rates if rate.grid}) > 1:
        warnings.append(
            "the arms were tuned over different grids of learning rates; more tries are a head "
            "start"
        )
    if len({rate.probe_seeds for rate in rates}) > 1:
        warnings.append(
            "the arms were tuned on different probe seeds; the luck of the seeds counts"
        )
    return list(dict.fromkeys(warnings))


def _doubts(rate: TunedRate, ours: Mapping[str, Any]) -> list[str]:
    theirs = rate.settings
    if theirs and theirs.get("backend") != ours["backend"]:
        raise ConfigError(
            f"{rate.source}: tuned with backend '{theirs.get('backend')}', and this study uses "
            f"'{ours['backend']}'; run cupel sweep --backend {ours['backend']}"
        )
    told = {key: setting_at(theirs, key) for key in SHARED_KEYS if key.split(".")[0] in theirs}
    doubts = [
        f"{rate.source}: tuned at {key} = {value}, used at {key} = {ours[key]}; the best "
        "rate may differ"
        for key, value in told.items()
        if value != ours[key]
    ]
    if rate.probe_seeds is None:
        doubts.append(
            f"{rate.source} names no probe seeds: nobody can tell whether its rates were chosen "
            "on the seeds of this study"
        )
    if rate.at_edge:
        doubts.append(
            f"{rate.source}: the rate of {rate.method} lies at the edge of its grid; a better one "
            "may lie beyond"
        )
    return doubts


def _rate(entry: Any, where: str) -> float:
    lr = entry.get("lr") if isinstance(entry, Mapping) else None
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not lr > 0:
        raise DataError(f"{where} is {lr!r}; expected a rate above 0")
    return float(lr)
