"""The tokenizer of a model that only a server has.

Knows where one is found: a folder or hub id in the settings, or what the SDK finds for the model.
Refuses to guess a vocabulary beyond what the tokenizer and the model's own settings say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cupel.errors import DataError
from cupel.policy.config import PolicyConfig
from cupel.policy.tinker.client import TrainingClient
from cupel.policy.tokens import PieceTokenizer


def load_tokenizer(config: PolicyConfig, client: TrainingClient) -> PieceTokenizer:
    """Return the tokenizer, with room for every id that the model can emit.

    Raises:
        DataError: there is none, or one that is not supported.
        InfrastructureFailure: the SDK cannot load it; in its own words.
    """
    named = config.tinker.tokenizer
    source = named or str(config.model)
    found = _from_pretrained(source) if named or Path(source).is_dir() else client.tokenizer()
    return PieceTokenizer(found, size=_model_vocabulary(source))


def _from_pretrained(source: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise DataError(
            f"backend 'tinker': no tokenizer at '{source}' ({first}); give its folder or hub id in "
            "policy.tinker.tokenizer"
        ) from None


def _model_vocabulary(source: str) -> int | None:
    """Return the size of the model's output where its settings are at hand; often more than the
    tokenizer's own."""
    from transformers import AutoConfig

    try:
        size = getattr(AutoConfig.from_pretrained(source), "vocab_size", None)
    except (OSError, ValueError):
        return None
    return None if size is None else int(size)
