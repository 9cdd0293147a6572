"""Fill docs/gallery from finished study folders: a report and a figure each, listed on one page.

python scripts/build_gallery.py results/quickstart results/ablation_5 ...

Knows how a judged study folder is shown on the site: its report is rendered anew by the code that
runs this script, and folders of the machine it ran on are taken out. Refuses a study without a
verdict, and anything that would still name a folder of somebody's machine.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from cupel.lab import StudyRecord, read_study
from cupel.report.page import report_html

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
FIGURES = ("learning_curves.svg", "effect.svg")
OPENING = """# Gallery

Reports of studies that were run, whatever they found. Each is one file without a network: verdict,
effects with intervals, learning curves of every seed, the runs and their failures, completions with
their tokens, the plan the study was held to. Hover a curve for its seed; switch to dark; print it.

The page is written by `scripts/build_gallery.py` from the study folders that the commands left.
"""


def main(folders: list[Path]) -> int:
    """Write the gallery; return 2 when a folder cannot be shown."""
    if not folders:
        print(__doc__)
        return 2
    GALLERY.mkdir(exist_ok=True)
    parts = [OPENING]
    for folder in folders:
        study = read_study(folder)
        judged = folder / "analysis" / "significance.json"
        if not judged.is_file():
            print(f"{folder}: no verdict yet; run `cupel run {folder}` first")
            return 2
        sentence = json.loads(judged.read_text())["sentence"]
        manifest = json.loads((folder / "manifest.json").read_text())
        page = without_machine(report_html(folder), folder, manifest)
        (GALLERY / f"{folder.name}.html").write_text(page)
        parts.append(entry(folder, study, sentence, copied_figure(folder)))
    (GALLERY / "index.md").write_text("\n".join(parts))
    return 0


def entry(folder: Path, study: StudyRecord, sentence: str, figure: str | None) -> str:
    """Return the paragraph of one study."""
    done = sum(run.status == "done" for run in study.runs)
    picture = f"\n![{folder.name}]({figure})\n" if figure else ""
    return (
        f"## {folder.name}\n\n*{study.study.question}* {done} of {len(study.runs)} runs, "
        f"{len(study.study.seeds)} seeds.\n\n> {sentence}\n{picture}\n"
        f"[Open the report]({folder.name}.html)\n"
    )


def copied_figure(folder: Path) -> str | None:
    """Copy the first figure there is, and return its name."""
    for name in FIGURES:
        source = folder / "figures" / name
        if source.is_file():
            target = f"{folder.name}_{name}"
            (GALLERY / target).write_text(source.read_text())
            return target
    return None


def without_machine(page: str, folder: Path, manifest: dict[str, Any]) -> str:
    """Take the folders of the machine out of a page.

    Raises:
        AssertionError: one is left.
    """
    page = re.sub(r"(?:/[\w.@+-]+)+/src/cupel/", "cupel/", page)
    working_folder = manifest["provenance"]["working_folder"]
    for path in sorted({str(folder.resolve()), working_folder}, key=len, reverse=True):
        page = page.replace(path, "…")
    page = re.sub(r"/tmp/[\w./-]+", "…", page)
    left = re.findall(r"(?<![\w.])/(?:home|root|Users|mnt|work|opt|var)/[\w./-]+", page)
    assert not left, f"{folder.name}: still names {sorted(set(left))}"
    return page


if __name__ == "__main__":
    sys.exit(main([Path(word) for word in sys.argv[1:]]))
