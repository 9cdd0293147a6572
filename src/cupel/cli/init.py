"""`cupel init`: writes a commented study file to start from."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.app import Stop, suggestion

TEMPLATES = {
    "quickstart": "2 conditions x 8 seeds of a tiny model, minutes on a CPU",
    "ablation_5": "the five-condition ablation, 40 runs",
    "sweep": "short probes that choose each algorithm's learning rate",
    "ab": "two arms, each at its own learning rate",
    "minimal": "the least a study needs",
}
"""Study templates and what each is for."""


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--template", default="quickstart", show_default=True, help="Which template.")
@click.option("--list", "list_", is_flag=True, help="List the templates and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def command(path: Path | None, template: str, list_: bool, as_json: bool, force: bool) -> None:
    """Write a commented study file to PATH (default: TEMPLATE.toml).

    The study is named after the file, so its folder is results/<name of the file>.

    \b
    Examples:
      cupel init
      cupel init --list
      cupel init --template ablation_5 studies/my_ablation.toml
    """
    if list_:
        if as_json:
            console.print_json([{"name": n, "description": d} for n, d in TEMPLATES.items()])
        else:
            console.table(["template", "what"], list(TEMPLATES.items()))
        return
    if template not in TEMPLATES:
        raise Stop(f"no template '{template}'; {suggestion(template, list(TEMPLATES))}")
    target = path or Path(f"{template}.toml")
    if target.is_dir():
        target = target / f"{template}.toml"
    if target.exists() and not force:
        raise Stop(f"{target} exists; give another PATH, or --force to overwrite it")
    text = named_after(target, template)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    console.line(f"wrote {target}")
    console.note(f"next: cupel plan {target}, then cupel run {target}")


def named_after(target: Path, template: str) -> str:
    """Return a template whose study, and whose comments, bear the name of the target file."""
    text = (files("cupel") / "templates" / f"{template}.toml").read_text(encoding="utf-8")
    found = re.search(r'^name = "(.+)"$', text, re.MULTILINE)
    assert found is not None, template
    name, stem = found.group(1), re.sub(r"[^A-Za-z0-9+._~=,-]", "_", target.stem)
    for before, after in (
        (f'name = "{name}"', f"name = {json.dumps(stem)}"),
        (f"{name}.toml", target.name),
        (f"results/{name}", f"results/{stem}"),
    ):
        text = text.replace(before, after)
    return text
