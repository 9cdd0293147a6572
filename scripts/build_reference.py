"""Write docs/reference/{study,train,evaluate,metrics,teach,arc,cli}.md and docs/api from the code.

python scripts/build_reference.py          write the pages
python scripts/build_reference.py --check  exit 1 when a page is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from api_pages import api_pages
from command_pages import commands_page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cupel.config import nested_config
from cupel.lab.metrics import Metric
from cupel.lab.registry import load_recipe
from cupel.lab.study import StudyConfig
from cupel.rlvr.config import BACKEND_DEFAULTS, TrainConfig
from cupel.rlvr.evaluation_config import EvaluateConfig
from cupel.rlvr.metrics import EVALUATED, EVALUATIONS, METRICS, PARTS

DOCS = Path(__file__).parents[1] / "docs"


OTHER_STREAMS = """
## Other streams

| file | one row | keys |
|---|---|---|
| `evaluation_problems.jsonl` | a held-out problem and evaluation | `step, problem_id, subject, \
level, correct_count, ungradable_count, samples, greedy`: what the interval for new problems is \
made from |
| `evaluation_rates.jsonl` | a rate of an evaluation: over all, of a subject, of a level | \
`step, by, group, metric, value, low, high, interval, unit, problems, completions, \
ungradable_count`: the 95 % interval has the problem as its unit |
| `emergence/steps.jsonl` | a step | counts, `planning_token_ratio, gram_entropy_delta, \
gram_entropy_pair_count`, entropies, `sepa_lambda`: what the litmus reads |
| `emergence/generations.jsonl` | a completion, every one | `step, problem_id, group, sample, \
prompt, completion, reward, correct, answer, answer_found, ungradable_cause, \
finish_reason, num_tokens, planning_token_ratio, gram_entropy_delta, metadata.correctness`; with \
`log_tokens` also ids, log-probs, entropies and the planning mask |
| `emergence/tokens.jsonl` | a completion of the groups that `token_log_every` and \
`token_log_groups` choose | `step, problem_id, group, sample, trained, uncertainty_kind`, \
`advantage` (before shaping), and a token each `pieces, logprobs, entropies, planning, \
advantages` (after shaping): what the [completion viewer](../how-to/read-completions.md) shows |
| `events.jsonl` | something beside the plan | `time, step, message` |
"""


EVALUATE_STREAMS = """
## Other streams

| file | one row | keys |
|---|---|---|
| `evaluation_problems.jsonl`, `evaluation_rates.jsonl` | as in training | as in training |
| `emergence/generations.jsonl` | a sampled completion | `step` (always 0), `problem_id, group, \
sample, subject, level, prompt, completion, reward, correct, answer, answer_found, outcome, \
finish_reason, num_tokens` |
| `emergence/greedy.jsonl` | a problem, decoded greedily | the same |
"""


def main() -> int:
    """Write or check the pages."""
    pages = {
        "reference/cli.md": commands_page(),
        "reference/study.md": study_page(),
        "reference/train.md": train_page(),
        "reference/metrics.md": metrics_page(),
        "reference/evaluate.md": evaluate_page(),
        "reference/teach.md": phases_page(
            "teach",
            "Keys of a phase's settings: `--set KEY=VALUE` on its command, and `[config]` of a "
            "study with\nits recipe.",
        ),
        "reference/arc.md": phases_page(
            "arc",
            "Keys of `cupel arc train` and `cupel arc evaluate` (`KEY=VALUE`), and `[config]` of a "
            "study with\ntheir recipes.",
        ),
        **{f"api/{name}": page for name, page in api_pages().items()},
    }
    stale = []
    for name, text in pages.items():
        path = DOCS / name
        if not path.is_file() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if stale and "--check" in sys.argv:
        print(f"out of date: {', '.join(stale)}; run `make docs`")
        return 1
    return 0


def study_page() -> str:
    """Describe the study file."""
    return (
        "# The study file\n\nEvery key of a study file. A key that is not here is an error.\n"
        "Any of them can be set on the command line: `--set decision.alpha=0.01`.\n\n"
        + config_tables(StudyConfig, "")
    )


def train_page() -> str:
    """Describe the settings of rlvr.train."""
    lines = [
        "# Settings of `rlvr.train`",
        "",
        'Keys of `[config]` in a study with `recipe = "rlvr.train"`; each is also a flag of',
        "`cupel train`, with dashes for underscores.",
        "",
        config_tables(TrainConfig, ""),
        "## Defaults that depend on the backend",
        "",
        "| backend | key | default |",
        "|---|---|---|",
    ]
    for backend, table in BACKEND_DEFAULTS.items():
        for key, value in _flat(table):
            lines.append(f"| {backend} | `{key}` | `{value}` |")
    return "\n".join(lines) + "\n"


def evaluate_page() -> str:
    """Describe the settings and rows of rlvr.evaluate."""
    return (
        "# Settings and rows of `rlvr.evaluate`\n\nKeys of `--set` on `cupel evaluate`, and of "
        '`[config]` in a study with `recipe = "rlvr.evaluate"`.\nWith a `checkpoint`, what is not '
        "given is as in its training.\n\n"
        + config_tables(EvaluateConfig, "")
        + "\n## `evaluations.jsonl`: one row\n\n"
        + _metric_table(EVALUATED)
        + "\n## `metrics.jsonl`: one row for what is decoded side by side\n\n"
        + _metric_table(PARTS)
        + EVALUATE_STREAMS
    )


def metrics_page() -> str:
    """Describe every metric."""
    return (
        "# Metrics\n\nWhat every key means. Missing values are `null`, never 0. Keys marked † "
        "depend on the machine's\nspeed; all others are byte-identical when a run is repeated.\n\n"
        "## `metrics.jsonl`: one row a step, trained or not\n\n"
        + _metric_table(METRICS)
        + "\n## `evaluations.jsonl`: one row a held-out evaluation\n\n"
        + _metric_table(EVALUATIONS)
        + OTHER_STREAMS
    )


def phases_page(domain: str, opening: str) -> str:
    """Describe the settings and rows of every recipe of a domain."""
    parts = [f"# Settings and rows of `{domain}`\n\n{opening}\n"]
    names = sorted(point.name for point in entry_points(group="cupel.recipes"))
    for name in (name for name in names if name.startswith(f"{domain}.")):
        recipe = load_recipe(name)
        parts.append(f"## `{name}`\n\n{_line(recipe.__doc__)}\n")
        parts.append(config_tables(recipe.config_type, ""))
        for stream, metrics in recipe.streams.items():
            if metrics is not None:
                parts.append(f"### Rows of `{stream}`\n\n{_metric_table(metrics)}")
    return "\n".join(parts)


def config_tables(model: type[BaseModel], prefix: str) -> str:
    """Return one table for a config class and one for each nested class."""
    rows, nested = [], []
    for name, field in model.model_fields.items():
        inner = nested_config(field.annotation, listed=True)
        if inner is not None:
            nested.append((f"{prefix}{name}.", inner, field))
            continue
        rows.append(f"| `{prefix}{name}` | `{_default(field)}` | {_line(field.description)} |")
    parts = (
        ["| key | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"] if rows else []
    )
    for path, inner, field in nested:
        parts.append(
            f"### `{path.rstrip('.')}`\n\n{_line(field.description)}\n\n"
            + config_tables(inner, path)
        )
    return "\n".join(parts)


def _metric_table(metrics: Sequence[Metric]) -> str:
    lines = ["| key | unit | tracker name | meaning |", "|---|---|---|---|"]
    for metric in metrics:
        mark = "" if metric.reproducible else " †"
        tracker = f"`{metric.tracker_name}`" if metric.tracker_name else ""
        lines.append(
            f"| `{metric.name}`{mark} | {metric.unit} | {tracker} | {_line(metric.meaning)} |"
        )
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return str(value).replace("|", "\\|")


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found


if __name__ == "__main__":
    sys.exit(main())
