"""Splits of data sets of the Hugging Face hub, or of a local copy, through the `datasets` library.

Knows hub ids, configurations, splits, revisions and what can go wrong on the way. Refuses to know
what a problem is. The library is imported when the first data set is opened, never before; a hub
that cannot be reached is one sentence that says where a local copy would go.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cupel.config import did_you_mean
from cupel.errors import DataError, MissingExtraError
from cupel.rlvr.problem_files import Rows

PROBE_LIMIT_S = 20.0
"""Seconds the hub may take to say that it knows a data set."""


def check_library() -> None:
    """Refuse to go on without the `datasets` library.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtraError("problems from a data set of the hub", "data")


def resolve_revision(dataset: str, revision: str | None) -> str:
    """Ask the hub for the commit a revision stands for now; with HF_HUB_OFFLINE, take it as given.

    Raises:
        DataError: the hub cannot be reached, or has no such data set or revision.
        MissingExtraError: the library is not installed.
    """
    check_library()
    from huggingface_hub import HfApi, constants, errors

    if constants.HF_HUB_OFFLINE:
        return revision or "main"
    try:
        info = HfApi().dataset_info(dataset, revision=revision, timeout=PROBE_LIMIT_S)
    except errors.GatedRepoError:
        raise DataError(
            f"problems.dataset = '{dataset}': the hub gives it to those who asked for access only; "
            "ask on its page and log in, or give a local copy in problems.path"
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise DataError(
            f"problems.dataset = '{dataset}': the hub has no data set of that name, or not for "
            "you; mend the id (owner/name), or give a local copy in problems.path"
        ) from None
    except errors.RevisionNotFoundError:
        raise DataError(
            f"problems.dataset = '{dataset}': the hub has no revision '{revision}' of it; "
            "mend problems.revision"
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever the network raises means one thing here
        raise DataError(
            f"problems.dataset = '{dataset}': the hub cannot be reached ({_first_line(error)}). "
            "Give a local copy in problems.path (a folder made by save_to_disk or laid out like "
            "the hub's repository, a .jsonl or a .parquet file), or set HF_HUB_OFFLINE=1 to use "
            "what was downloaded before"
        ) from None
    return str(info.sha)


def read_split(place: str, name: str | None, split: str, *, revision: str | None = None) -> Rows:
    """Return the rows of one split.

    Args:
        place: a hub id, or a local folder: made by `save_to_disk` (with a folder per configuration
            where there are several) or laid out like the hub's repository.
        name: the configuration.
        revision: of a hub id, as `resolve_revision` gave it.

    Raises:
        DataError: no such configuration or split (names those there are), or unreadable files.
        MissingExtraError: the library is not installed.
    """
    check_library()
    import datasets

    shown = place if name is None else f"{place} ({name})"
    with _quiet(datasets):
        try:
            found = _open(datasets, place, name, split, revision)
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001 - the library's many errors, told as one
            raise DataError(
                f"{shown}: split '{split}' cannot be loaded: {_first_line(error)}; mend "
                "problems.dataset_config, problems.split or problems.path"
            ) from None
        rows = found.to_list()
    return [(f"{shown} {split} row {number}", row) for number, row in enumerate(rows, start=1)]


def _open(datasets: Any, place: str, name: str | None, split: str, revision: str | None) -> Any:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        if revision is None:
            raise DataError(f"{place}: no such folder; mend problems.path")
        return datasets.load_dataset(place, name, split=split, revision=revision)
    for saved in (folder, folder / (name or ".")):
        if (saved / "dataset_dict.json").is_file():
            splits = datasets.load_from_disk(str(saved))
            if split not in splits:
                raise DataError(
                    f"{saved}: no split '{split}'; {did_you_mean(split, sorted(splits))} Mend "
                    "problems.split or problems.held_out_split (none: a share of the other)"
                )
            return splits[split]
        if (saved / "dataset_info.json").is_file() and (saved / "state.json").is_file():
            raise DataError(
                f"{saved}: holds a single split without its name; save a DatasetDict with "
                f"a split '{split}'"
            )
    return _load_folder(datasets, folder, name, split)


def _load_folder(datasets: Any, folder: Path, name: str | None, split: str) -> Any:
    """Load a folder laid out like a hub repository: by its card, or by a folder a configuration."""
    if name is None:
        return datasets.load_dataset(str(folder), split=split)
    names = datasets.get_dataset_config_names(str(folder))
    if name in names:
        return datasets.load_dataset(str(folder), name, split=split)
    if (folder / name).is_dir():
        return datasets.load_dataset(str(folder / name), split=split)
    raise DataError(
        f"{folder}: no configuration '{name}': no folder of that name, and its card names "
        f"{', '.join(names)}; mend problems.path or problems.dataset_config"
    )


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Keep progress bars and chatter off the screen while a data set is opened."""
    bars, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
