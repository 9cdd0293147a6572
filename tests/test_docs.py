"""Documentation that cannot go stale: flags, links, reference pages, README blocks."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cupel.cli.app import program

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text()
SEEDS = (ROOT / "docs" / "reference" / "from-the-seeds.md").read_text()
FLAGS = re.findall(r"^\| `(--[a-z-]+)` \| `([a-z ]+)` \| (.*?) ?\|$", SEEDS, re.MULTILINE)


def command(name: str) -> click.Command:
    """Return a command of the program, e.g. `train` or `teach label`."""
    found: click.Command | None = program
    for word in name.split():
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), word)
    assert found is not None, f"no command {name}"
    return found


@pytest.mark.parametrize(("flag", "name", "default"), FLAGS, ids=lambda value: value or "-")
def test_documented_flag_exists_with_its_default(flag: str, name: str, default: str) -> None:
    matching = [p for p in command(name).params if flag in p.opts]
    assert matching, f"cupel {name} has no {flag}"
    if default and not default.startswith(("(", "[")) and " " not in default and "<" not in default:
        option = matching[0]
        assert isinstance(option, click.Option)
        record = option.get_help_record(click.Context(command(name))) or ("", "")
        known = "false" if option.is_flag else f"{record[1]} {option.default}"
        assert default.casefold() in known.casefold(), f"{name} {flag}: {default} not in {known}"


@pytest.mark.parametrize(
    ("flag", "name", "default"),
    [entry for entry in FLAGS if entry[2][:1] in ("(", "[")],
    ids=lambda value: value or "-",
)
def test_a_default_of_a_backend_is_the_one_its_help_tells(
    flag: str, name: str, default: str
) -> None:
    option = next(p for p in command(name).params if flag in p.opts)
    assert isinstance(option, click.Option)
    known = re.search(r"\[default: (.*)\]", option.help or "")
    assert known is not None, option.help
    values = {
        owner: value
        for value, owners in re.findall(r"(.+?) \(([a-z, ]+)\)(?:, |$)", known.group(1))
        for owner in owners.split(", ")
    }
    for backend in ("torch", "tinker") if default.startswith("(") else ("tinker",):
        assert plain(values.get(backend, known.group(1))) == plain(default[1:-1]), backend


def plain(value: str) -> str:
    """Return a default without its spelling: 4e-5 is 4e-05."""
    try:
        return repr(float(value))
    except ValueError:
        return value


def test_the_flag_table_is_not_empty() -> None:
    assert len(FLAGS) > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_reference_pages_are_up_to_date() -> None:
    script = ROOT / "scripts" / "build_reference.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_readme_is_short() -> None:
    assert README.count("\n") <= 150


def test_readme_study_plans_and_its_commands_parse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    (tmp_path / "sepa_vs_hicra.toml").write_text(block.group(1))
    commands = re.findall(r"^\$ (cupel .*?)(?:  #.*)?$", README, re.MULTILINE)
    assert len(commands) >= 4
    for line in commands:
        words = shlex.split(line)[1:]
        needs_results = "--lr-from" in words
        if words[0] in ("plan", "campaign", "ab") and not needs_results:
            words = [word for word in words if word != "--execute"]
            done = CliRunner().invoke(program, words)
            assert done.exit_code == 0, done.output
        else:
            assert command(words[0]) is not None
            known = {opt for param in command(words[0]).params for opt in param.opts}
            assert {word for word in words if word.startswith("--")} <= known


def test_project_speaks_of_itself_alone() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    private = re.compile(r"/work/|bash_jobs|\.library|/opt/pypi")
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".sh", ".txt") and path != Path(__file__):
            assert not private.search(path.read_text()), name


TUTORIAL_COMMANDS = [
    (page.name, line)
    for page in sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    for line in re.findall(r"^\$ cupel (.*?)(?:  #.*)?$", page.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(("page", "line"), TUTORIAL_COMMANDS)
def test_tutorial_commands_have_the_flags_they_show(page: str, line: str) -> None:
    words = shlex.split(line)
    name = " ".join(words[:2]) if words[0] in ("teach", "power", "arc") else words[0]
    found = command(name)
    known = {option for param in found.params for option in param.opts}
    assert {word for word in words if word.startswith("--")} <= known
