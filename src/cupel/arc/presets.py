"""Named sets of settings: what runs on a CPU, the paper's, and those of the ETRM project by name.

Pure. Knows data for `ArcTrainConfig`. Refuses to know how it is laid under what a user passes: a
preset is only defaults, and every setting of it can be set otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from cupel.config import did_you_mean
from cupel.errors import ConfigError

_CPU: Mapping[str, Any] = {
    "max_train_groups": 32,
    "max_eval_groups": 32,
    "max_side": 10,
    "items": {
        "sides": [10],
        "dihedral": False,
        "colours": False,
        "translate": False,
        "subset_prob": 0.0,
    },
    "encoder": {"kind": "standard", "num_layers": 1},
    "hidden_size": 64,
    "num_heads": 4,
    "L_layers": 2,
    "H_cycles": 2,
    "L_cycles": 2,
    "n_context": 8,
    "halt_max_steps": 2,
    "out_of_phase": True,
    "loss_type": "softmax",
    "global_batch_size": 16,
    "max_steps": 3500,
    "lr": 1e-3,
    "lr_min_ratio": 0.1,
    "lr_warmup_steps": 100,
    "weight_decay": 0.01,
    "ema_rate": 0.99,
    "log_every": 10,
    "eval_every": 500,
    "save_every": 500,
    "probe_groups": None,
}

_TRM: Mapping[str, Any] = {
    "H_cycles": 3,
    "L_cycles": 4,
    "halt_max_steps": 16,
    "halt_exploration_prob": 0.1,
    "global_batch_size": 768,
    "lr": 1e-4,
    "lr_warmup_steps": 2000,
    "weight_decay": 0.1,
    "forward_dtype": "bfloat16",
    "max_steps": 518_071,
}

_PAPER: Mapping[str, Any] = {**_TRM, "encoder": {"kind": "standard", "num_layers": 2}}

_ETRM: Mapping[str, Any] = {
    "H_cycles": 3,
    "L_cycles": 6,
    "halt_max_steps": 16,
    "halt_exploration_prob": 0.1,
    "global_batch_size": 384,
    "lr": 1e-4,
    "lr_warmup_steps": 2000,
    "weight_decay": 0.1,
    "forward_dtype": "bfloat16",
    "max_steps": 174_240,
    "eval_every": 10_000,
    "encoder": {"kind": "standard", "num_layers": 2},
}

_GUIDE: Mapping[str, Any] = {**_ETRM, "halt_exploration_prob": 0.5, "global_batch_size": 256}

_FROZEN: Mapping[str, Any] = {
    **_ETRM,
    "L_cycles": 4,
    "lr": 3e-4,
    "lr_warmup_steps": 1000,
    "max_train_groups": 32,
    "max_eval_groups": 4,
    "max_steps": 20_000,
    "freeze_decoder_steps": 20_000,
    "encoder_lr_scale": 1.0,
}

_STAGED: Mapping[str, Any] = {
    **_ETRM,
    "L_cycles": 4,
    "max_steps": 10_000,
    "eval_every": 5000,
    "max_eval_groups": 32,
    "freeze_decoder_steps": 2500,
}

_ETRMTRM: Mapping[str, Any] = {
    **_ETRM,
    "global_batch_size": 256,
    "encoder": {"kind": "recurrent", "h_cycles": 3, "l_cycles": 4, "l_layers": 2},
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "cpu": _CPU,
    "paper": _PAPER,
    "trm": {
        **_TRM,
        "encoder": {"kind": "embedding", "context_tokens": 1},
        "train_on_heldout_demos": True,
    },
    "cfg_pretrain_etrm_arc_agi_1": _ETRM,
    "cfg_pretrain_encoder_original_arc_agi_1": _GUIDE,
    "cfg_pretrain_etrmtrm_arc_agi_1": _ETRMTRM,
    "cfg_test_frozen_decoder": _FROZEN,
    "cfg_test_frozen_decoder_corrected": _FROZEN,
    "cfg_staged_training": _STAGED,
}
"""cpu: 32 groups in minutes; paper: TRM's sizes with an encoder; trm: its learned embedding; the
others carry the names and the settings of the ETRM project's files (`original`: as its experiment
guide describes it, exploration 0.5 and batch 256), `encoder_lr_scale` excepted: 0 there meant one
optimizer for both parts, which is what 1 does here."""


def preset(name: str) -> dict[str, Any]:
    """Return the settings of a preset, to be laid under what the user passes.

    Raises:
        ConfigError: no such preset; names the nearest.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset '{name}'; {did_you_mean(name, list(PRESETS))}")
    return deepcopy(dict(PRESETS[name]))
