"""Policies: what samples completions, scores them and takes a gradient step."""

from cupel.policy.build import build_policy
from cupel.policy.config import PolicyConfig
from cupel.policy.protocol import (
    Capabilities,
    Completions,
    Credit,
    KnownCredit,
    LossConfig,
    Policy,
    ReferencePolicy,
    Scores,
    Tokenizer,
    UpdateResult,
)

__all__ = [
    "Capabilities",
    "Completions",
    "Credit",
    "KnownCredit",
    "LossConfig",
    "Policy",
    "PolicyConfig",
    "ReferencePolicy",
    "Scores",
    "Tokenizer",
    "UpdateResult",
    "build_policy",
]
