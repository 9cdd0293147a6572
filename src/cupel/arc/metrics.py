"""Every key a training writes: its meaning, unit and direction, in the order of a row.

Pure declarations. The names under `train/` and `grad/` are those of the ETRM project, measured as
it measures them; the names without a prefix say what those cannot: exact match at halt, whether
the demonstrations are used, and how sure each number is. docs/algorithms/arc-metrics.md compares
the two.
"""

from __future__ import annotations

from cupel.lab.metrics import Metric

AGES = (1, 2, 4, 8, 16, 32)
"""Ages, in steps, at which exact match is probed; those beyond halt_max_steps are missing."""


def _metric(
    name: str,
    meaning: str,
    unit: str = "rate",
    better: bool | None = None,
    *,
    machine: bool = False,
) -> Metric:
    return Metric(
        name=name,
        meaning=meaning,
        unit=unit,
        higher_is_better=better,
        tracker_name=name,
        reproducible=not machine,
    )


def _rate(name: str, meaning: str, *, better: bool | None = True) -> tuple[Metric, ...]:
    return (
        _metric(name, meaning, better=better),
        _metric(f"{name}_lo", f"Lower 95 % limit of {name}."),
        _metric(f"{name}_hi", f"Upper 95 % limit of {name}."),
    )


METRICS: tuple[Metric, ...] = (
    _metric("step", "Updates done.", "count"),
    _metric("condition", "Label of the condition.", "text"),
    _metric("seed", "Seed of the run.", "count"),
    _metric("encoder", "Kind of encoder.", "text"),
    _metric("train/accuracy", "Labelled cells right, mean over slots of every age.", better=True),
    _metric(
        "train/exact_accuracy",
        "Slots of every age with every labelled cell right. Slots that fail stay longer, so it is "
        "below em_at_halt and moves with halting; judge by em_at_halt.",
        better=True,
    ),
    _metric("train/lm_loss", "Mean negative log-likelihood a slot.", "nats", False),
    _metric("train/q_halt_loss", "Mean cross-entropy of the halt head, unweighted.", "nats", False),
    _metric("train/q_halt_accuracy", "Slots that the halt head judged rightly.", better=True),
    _metric("train/steps", "Mean age of the slots; not the steps at halt.", "count"),
    _metric("train/lr", "Learning rate of the decoder; 0 while frozen.", "rate"),
    _metric("train/encoder_lr", "Learning rate of the encoder; 0 while frozen.", "rate"),
    _metric("train/count", "Labelled slots an update.", "count"),
    _metric("train/decoder_frozen", "1 while the decoder is frozen.", "flag"),
    _metric("train/encoder_frozen", "1 while the encoder is frozen.", "flag"),
    _metric(
        "train/encoder_cross_sample_var",
        "Variance of the context over slots, mean over positions and channels, last update.",
        "variance",
    ),
    _metric("train/encoder_output_mean", "Mean of the context, last update.", "activation"),
    _metric("train/encoder_output_norm", "Mean L2 norm of a context position.", "activation"),
    _metric("train/encoder_output_std", "Standard deviation of the context.", "activation"),
    _metric(
        "train/encoder_token_std",
        "Standard deviation of the context over slots, mean over positions and channels: what the "
        "project logs under this name.",
        "activation",
    ),
    _metric(
        "encoder_position_std",
        "Standard deviation over the positions of one slot's context, mean over slots.",
        "activation",
    ),
    _metric("grad/encoder_norm", "Norm of the encoder's gradient: reduced, unclipped.", "norm"),
    _metric("grad/inner_norm", "Norm of the decoder's gradient: reduced, unclipped.", "norm"),
    _metric("grad/total_norm", "Norm of the whole gradient: reduced, unclipped.", "norm"),
    _metric("grad/clip_rate", "Updates whose gradient was clipped."),
    _metric(
        "gradient_coverage", "Slots that gave the encoder a gradient, last update.", better=True
    ),
    _metric("update/encoder_ratio", "Norm of the encoder's last update over its weights.", "ratio"),
    _metric("update/inner_ratio", "Norm of the decoder's last update over its weights.", "ratio"),
    _metric("loss", "What is minimised: mean over slots of all weighted terms.", "nats", False),
    _metric("kl", "Mean KL divergence a slot, unweighted; missing without one.", "nats"),
    *_rate("em_at_halt", "Items with every labelled cell right when they left their slot."),
    _metric("em_at_halt_n", "Items that left their slot.", "count"),
    _metric("steps_at_halt", "Mean steps of the items that left.", "count"),
    _metric("forced_fraction", "Items that left because halt_max_steps was reached."),
    _metric(
        "q_calibration_error",
        "Gap between the halt head's probability and the items right, at halt, over ten bins.",
        better=False,
    ),
    _metric("q_brier", "Mean squared error of that probability, at halt.", better=False),
    _metric("epoch", "Passes over the training pairs by the side that is least far.", "count"),
    _metric("num_params", "Parameters of encoder and decoder.", "count"),
    _metric("samples_per_s", "Slot steps a second.", "1/s", True, machine=True),
    _metric("items_per_s", "Items finished a second.", "1/s", True, machine=True),
    _metric("step_time_s", "Seconds an update.", "s", False, machine=True),
)
"""metrics.jsonl: one row every `log_every` updates, a mean over them where not said otherwise."""


def _view(prefix: str, what: str) -> tuple[Metric, ...]:
    return (
        _metric(f"{prefix}puzzles", f"Puzzles of {what}.", "count"),
        _metric(f"{prefix}items", f"Queries of {what}.", "count"),
        _metric(f"{prefix}accuracy", f"Labelled cells right at halt, {what}.", better=True),
        *_rate(
            f"{prefix}em_at_halt",
            f"Exact match at the first step that would halt, or the last, {what}. Interval: Wilson "
            "over puzzles.",
        ),
        _metric(f"{prefix}steps_at_halt", f"Mean of that step, {what}.", "count"),
        _metric(f"{prefix}forced_fraction", f"Queries that never would have halted, {what}."),
    )


EVALUATIONS: tuple[Metric, ...] = (
    _metric("step", "Updates done.", "count"),
    _metric("condition", "Label of the condition.", "text"),
    _metric("seed", "Seed of the run.", "count"),
    _metric("weights", "ema or raw.", "text"),
    *_view("", "the probed training groups"),
    *(
        m
        for age in AGES
        for m in _rate(f"em_at_{age}", f"Exact match after {age} steps, the same.")
    ),
    *_rate(
        "context_gain",
        "em_at_halt minus that with the demonstrations of another task: are they used at all? "
        "Interval: paired differences clustered by puzzle.",
    ),
    _metric("context_gain_n", "Queries that had another task to swap with.", "count"),
    _metric("em_swapped", "em_at_halt with the demonstrations of another task."),
    *_rate("null_gain", "em_at_halt minus that with an empty context; interval as above."),
    _metric("em_null", "em_at_halt with an empty context."),
    _metric(
        "between_task_share",
        "Share of the context's variance that lies between puzzles rather than within one.",
        better=True,
    ),
    *_view("heldout_", "the held-out puzzles, one vote"),
    _metric("contamination", "clean, contaminated or unknown: of the held-out puzzles.", "text"),
    _metric("health", "ok, warn or stop.", "text"),
    _metric("evaluation_time_s", "Seconds of this evaluation.", "s", False, machine=True),
)
"""evaluations.jsonl: one row an evaluation."""
