"""`cupel arc train`: one training, settings as `key=value`."""

from __future__ import annotations

from pathlib import Path

import click

from cupel.cli import console
from cupel.cli.arc.training import Machine, train_run, training_options
from cupel.cli.train import show_result


@click.command()
@click.option(
    "--config-name",
    help="A preset to start from, e.g. cfg_pretrain_etrm_arc_agi_1; --list-configs shows them.",
)
@click.option("--list-configs", is_flag=True, help="Show the presets and what they set.")
@training_options
def command(
    words: tuple[str, ...],
    config_name: str | None,
    list_configs: bool,
    config_file: Path | None,
    log_dir: Path | None,
    seed: int,
    device: str,
    threads: int,
    as_json: bool,
) -> None:
    """Train one model. Killed, it continues where it stopped when called again.

    Settings are key=value words: our own dotted names, their last words where only one setting ends
    so, or the keys of the ETRM and TRM repositories, with or without a leading +.

    \b
    Examples:
      cupel arc train max_train_groups=32 encoder.kind=cross_attention +run_name=first
      cupel arc train --config-name cfg_pretrain_encoder_original_arc_agi_1 \\
          max_train_groups=32 max_eval_groups=32 +project_name=etrm-dev +run_name=std_overfit
      cupel arc train --config-name cfg_pretrain_etrm_arc_agi_1 arch.halt_max_steps=8
      torchrun --nproc-per-node 4 -m cupel arc train --device cuda +run_name=full
    """
    from cupel.arc.presets import PRESETS, preset
    from cupel.cli.arc.overrides import words_of

    if list_configs:
        for name, settings in PRESETS.items():
            console.line(f"{name}\n  {' '.join(words_of(settings))}")
        return
    folder, _ = train_run(
        {} if config_name is None else preset(config_name),
        config_file,
        words,
        Machine(log_dir=log_dir, seed=seed, device=device, threads=threads),
        default_name="train",
    )
    show_result(folder, as_json=as_json)
