"""Named settings of a training: the configs of the ETRM repository, and ours for a small machine.

Pure. Knows values as they were published, said in the keys they were published under. Refuses to
be more than data: every value can be overridden on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_TRM_CORE = (
    "hidden_size=512",
    "num_heads=8",
    "L_layers=2",
    "expansion=4.0",
    "H_cycles=3",
    "puzzle_emb_len=16",
    "halt_max_steps=16",
    "loss_type=stablemax_cross_entropy",
    "forward_dtype=bfloat16",
    "lr=1e-4",
    "lr_min_ratio=1.0",
    "lr_warmup_steps=2000",
    "beta1=0.9",
    "beta2=0.95",
    "weight_decay=0.1",
    "grad_clip_norm=1.0",
    "ema=true",
    "ema_rate=0.999",
)

_ETRM = (*_TRM_CORE, "encoder_type=standard", "encoder_num_layers=2", "max_demos=10")

CONFIGS: Mapping[str, tuple[str, Sequence[str]]] = {
    "cfg_pretrain_encoder_original_arc_agi_1": (
        "The experiment guide's baseline: 16 steps, exploration 0.5, batch 256.",
        (*_ETRM, "L_cycles=6", "halt_exploration_prob=0.5", "global_batch_size=256"),
    ),
    "cfg_pretrain_etrm_arc_agi_1": (
        "Its later edition: exploration 0.1, batch 384.",
        (*_ETRM, "L_cycles=6", "halt_exploration_prob=0.1", "global_batch_size=384"),
    ),
    "cfg_pretrain_etrmtrm_arc_agi_1": (
        "ETRM², the recurrent encoder; gradients reach it here.",
        (
            *_TRM_CORE,
            "L_cycles=6",
            "halt_exploration_prob=0.1",
            "global_batch_size=256",
            "max_demos=10",
            "recurrent_encoder_type=trm_style",
            "encoder_h_cycles=3",
            "encoder_l_cycles=4",
            "encoder_l_layers=2",
        ),
    ),
}
"""Configs by the name given to `--config-name`: what they are, and their settings."""

OVERFIT: Mapping[str, tuple[str, Sequence[str]]] = {
    "cpu": (
        "32 groups that fit 10x10, a small model, minutes on one core.",
        (
            "max_train_groups=32",
            "max_side=10",
            "hidden_size=64",
            "num_heads=4",
            "L_layers=2",
            "H_cycles=2",
            "L_cycles=2",
            "puzzle_emb_len=8",
            "halt_max_steps=8",
            "encoder_type=cross_attention",
            "lr=1e-3",
            "lr_warmup_steps=100",
            "global_batch_size=32",
            "forward_dtype=float32",
        ),
    ),
    "paper": (
        "32 groups, the published baseline's model; hours on GPUs.",
        (
            *CONFIGS["cfg_pretrain_encoder_original_arc_agi_1"][1],
            "max_train_groups=32",
        ),
    ),
}
"""Presets of `cupel arc overfit`."""
