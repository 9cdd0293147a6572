"""Static figures: all three in all formats, the same bytes twice, and no global state left."""

from __future__ import annotations

import builtins
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cupel.errors import MissingExtraError
from cupel.report import write_figures

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture
def matplotlib() -> ModuleType:
    return pytest.importorskip("matplotlib")


def test_writes_three_figures_in_three_formats(study: Path, matplotlib: ModuleType) -> None:
    paths = write_figures(study)
    assert [path.relative_to(study).as_posix() for path in paths] == [
        f"figures/{name}.{kind}"
        for name in ("learning_curves", "effect", "entropy")
        for kind in ("png", "svg", "pdf")
    ]
    for path in paths:
        assert path.read_bytes().startswith(MAGIC[path.suffix])


def test_same_folder_same_bytes_and_no_setting_left_behind(
    study: Path, matplotlib: ModuleType
) -> None:
    before = dict(matplotlib.rcParams)
    first = {path: path.read_bytes() for path in write_figures(study)}
    second = {path: path.read_bytes() for path in write_figures(study)}
    assert first == second
    assert dict(matplotlib.rcParams) == before


def test_svg_names_the_conditions_and_their_seeds(study: Path, matplotlib: ModuleType) -> None:
    paths = write_figures(study)
    svg = next(path for path in paths if path.name == "learning_curves.svg").read_text()
    assert "grpo+none (95 % t-band, n = 4)" in svg
    assert "correct rate (%)" in svg


def test_leaves_out_a_figure_without_data(
    synthetic: ModuleType, tmp_path: Path, matplotlib: ModuleType
) -> None:
    folder = synthetic.write_study(tmp_path / "s", judged=False)
    names = {path.stem for path in write_figures(folder)}
    assert names == {"learning_curves", "entropy"}


def test_without_matplotlib_names_the_extra(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def hidden(name: str, *rest: Any) -> Any:
        return None if name == "matplotlib" else find_spec(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", hidden)
    with pytest.raises(MissingExtraError, match="plot"):
        write_figures(study)


def test_the_page_needs_no_matplotlib(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cupel.report import write_report

    load = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        assert not name.startswith("matplotlib")
        return load(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert write_report(study).is_file()
    assert "cupel.report.figures" in sys.modules
