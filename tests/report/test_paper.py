"""The folder for papers: tables that LaTeX takes, figures in vector formats, nothing silent."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cupel.report import paper

pytest.importorskip("matplotlib")
LATEX = shutil.which("pdflatex")


def test_writes_figures_tables_and_a_document(study: Path) -> None:
    written = paper.write_paper(study)
    names = {path.relative_to(study).as_posix() for path in written.paths}
    figures = {
        f"paper/{name}.{kind}"
        for name in ("learning_curves", "effect", "entropy")
        for kind in ("pdf", "svg")
    }
    tables = {f"paper/{name}.tex" for name in ("conditions", "effects", "runs", "paper")}
    assert figures | tables <= names
    assert (written.without_pgf is None) == any(name.endswith(".pgf") for name in names)


def test_without_latex_says_so_and_writes_the_rest(
    study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    written = paper.write_paper(study)
    assert written.without_pgf is not None
    assert "pdflatex" in written.without_pgf
    assert not [path for path in written.paths if path.suffix == ".pgf"]
    assert [path for path in written.paths if path.suffix == ".pdf"]


def test_the_effects_table_holds_the_verdicts_numbers(study: Path) -> None:
    paper.write_paper(study)
    text = (study / "paper" / "effects.tex").read_text()
    assert "\\toprule" in text
    assert "maxrl" in text
    assert "% source sha256: " in text


@pytest.mark.skipif(LATEX is None, reason="needs a LaTeX installation (pdflatex)")
def test_latex_sets_the_document(study: Path, tmp_path: Path) -> None:
    paper.write_paper(study)
    done = subprocess.run(
        [str(LATEX), "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=study / "paper",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (study / "paper" / "paper.pdf").read_bytes().startswith(b"%PDF")
