"""What a predictor may see of a moment before anything was labelled, each feature with its origin.

Knows moments. Refuses to hand out, unless asked by name, what is the label itself in another dress
or what only the end of the episode tells: with those a predictor looks good and knows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from cupel.config import Config, did_you_mean, fingerprint
from cupel.errors import DataError
from cupel.teach.prediction.embedding import Embedder, embed
from cupel.teach.prediction.feature_registry import REGISTRY, VERSION, Feature
from cupel.teach.records import Moment

Group = Literal["structural", "student"]
GROUPS: tuple[Group, ...] = ("structural", "student")
"""What may be asked for as a whole; label and future features only by name."""

_NO_END = "an episode's end is not known of a moment; mined records do not hold it"


class FeatureConfig(Config):
    """Which features a predictor sees."""

    groups: list[Group] = Field(default_factory=lambda: list(GROUPS))
    """Groups of features by where they come from."""
    also: list[str] = Field(default_factory=list)
    """More features by name, label-identical or future ones included; they are marked in every
    result, because a predictor that sees them is told the answer."""
    embedder: Embedder = "hashing"
    """hashing: words and word pairs of task and observation hashed, no download; sentence: a
    sentence transformer; none: structural features only."""
    embedding_dim: Annotated[int, Field(ge=1)] = 256
    """Dimensions of the hashing embedder."""
    sentence_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Model of the sentence embedder."""

    @field_validator("also")
    @classmethod
    def _names_are_known(cls, also: list[str]) -> list[str]:
        for name in also:
            if name not in REGISTRY:
                raise ValueError(f"no feature '{name}'; {did_you_mean(name, list(REGISTRY))}")
        return also


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Features of moments.

    Attributes:
        values_ND: one row a moment; float64, finite.
        names: one a column; embedding columns are `text_0` and on.
    """

    values_ND: NDArray[np.float64]
    names: tuple[str, ...]

    @property
    def n_text(self) -> int:
        """Number of embedding columns; they are the last ones."""
        return sum(name.startswith("text_") for name in self.names)


def chosen(config: FeatureConfig) -> tuple[Feature, ...]:
    """Return the features a config names, in the registry's order."""
    return tuple(
        feature
        for feature in REGISTRY.values()
        if feature.provenance in config.groups or feature.name in config.also
    )


def told_answers(config: FeatureConfig) -> tuple[str, ...]:
    """Return the chosen features that are label-identical or future."""
    return tuple(each.name for each in chosen(config) if each.provenance in ("label", "future"))


def feature_set_id(config: FeatureConfig) -> str:
    """Return the fingerprint of a feature set: names, order, embedder and version."""
    embedding: list[object] = [config.embedder]
    match config.embedder:
        case "hashing":
            embedding.append(config.embedding_dim)
        case "sentence":
            embedding.append(config.sentence_model)
        case "none":
            pass
    return fingerprint([VERSION, [each.name for each in chosen(config)], embedding])


def feature_matrix(moments: Sequence[Moment], config: FeatureConfig) -> Matrix:
    """Compute the features of moments; a row depends on its own moment only.

    Raises:
        DataError: a chosen feature cannot be known of a moment; says which.
        MissingExtraError: the embedder's package is not installed.
    """
    features = chosen(config)
    table_NF = np.empty((len(moments), len(features)))
    for row, moment in enumerate(moments):
        for column, feature in enumerate(features):
            value = feature.compute(moment)
            if value is None:
                raise DataError(
                    f"feature '{feature.name}' ({feature.provenance}) of moment {moment.id}: not "
                    f"known: {_NO_END if feature.provenance == 'future' else feature.meaning}. "
                    "Leave it out of features.also"
                )
            table_NF[row, column] = value
    text_NE = embed(
        [f"{moment.task}\n{moment.observation}" for moment in moments],
        config.embedder,
        dim=config.embedding_dim,
        model=config.sentence_model,
    )
    names = [each.name for each in features] + [f"text_{i}" for i in range(text_NE.shape[1])]
    return Matrix(values_ND=np.hstack([table_NF, text_NE]), names=tuple(names))
