"""Text as numbers: hashed words without a download, or a sentence transformer where installed.

Knows texts. Refuses to learn anything from them: a row depends on its own text only, so nothing
leaks between folds here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cupel.errors import MissingExtraError

Embedder = Literal["hashing", "sentence", "none"]


def embed(texts: Sequence[str], embedder: Embedder, *, dim: int, model: str) -> NDArray[np.float64]:
    """Return one row a text [N, D]; no columns for `none`.

    Args:
        dim: columns of the hashing embedder; model: name of the sentence transformer.

    Raises:
        MissingExtraError: scikit-learn or sentence-transformers is not installed.
    """
    match embedder:
        case "none":
            return np.zeros((len(texts), 0))
        case "hashing":
            return _hashed(texts, dim)
        case "sentence":
            return _sentences(texts, model)


def _hashed(texts: Sequence[str], dim: int) -> NDArray[np.float64]:
    """Hash words and word pairs with signs, rows of length 1.

    Source: Weinberger et al. 2009 (arXiv:0902.2206).
    """
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError:
        raise MissingExtraError("the hashing embedder", "teach") from None
    vectorizer = HashingVectorizer(
        n_features=dim,
        ngram_range=(1, 2),
        token_pattern=r"\w+",  # one-letter words and single digits count too
        alternate_sign=True,
        norm="l2",
    )
    if not texts:
        return np.zeros((0, dim))
    return np.asarray(vectorizer.transform(texts).toarray(), dtype=np.float64)


def _sentences(texts: Sequence[str], model: str) -> NDArray[np.float64]:
    try:
        from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]
    except ImportError:
        raise MissingExtraError("the sentence embedder", "sentence") from None
    encoder = SentenceTransformer(model, device="cpu")
    return np.asarray(encoder.encode(list(texts), show_progress_bar=False), dtype=np.float64)
