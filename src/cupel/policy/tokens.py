"""Tokenizers of the transformers library behind Cupel's three questions: ids, text, bytes.

Knows what bytes each id contributes to decoded text, for byte-level BPE, SentencePiece-style
(Metaspace, byte fallback) and plain word vocabularies. Decoding is joining those bytes, so that
text, offsets and pieces can never disagree. Refuses decoders it cannot express that way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cupel.errors import DataError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class PieceTokenizer:
    """A fast tokenizer whose every id has fixed bytes."""

    def __init__(self, tokenizer: Any, *, size: int | None = None) -> None:
        """Wrap a transformers fast tokenizer.

        Args:
            size: the model's vocabulary, where larger than the tokenizer's; ids beyond add nothing.

        Raises:
            DataError: no end-of-sequence token, or a decoder that is not a joining of pieces.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise DataError(f"{type(tokenizer).__name__}: only fast tokenizers are supported")
        if tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no end-of-sequence token; set eos_token")
        self._tokenizer = tokenizer
        self.eos_id: int = int(tokenizer.eos_token_id)
        pad = tokenizer.pad_token_id
        self.pad_id: int = self.eos_id if pad is None else int(pad)
        unknown = tokenizer.unk_token_id
        self.unknown_id: int | None = None if unknown is None else int(unknown)
        """What a text outside the vocabulary is read as; None where every text can be read."""
        self.piece_bytes: Sequence[bytes] = _pieces(backend, size or 0)

    def encode(self, text: str) -> list[int]:
        """Encode a prompt with the special tokens the tokenizer puts in front of one."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=True)["input_ids"]
        return ids[:-1] if ids and ids[-1] == self.eos_id else ids

    def encode_chat(self, text: str) -> list[int]:
        """Encode a prompt as a user's message, with the opening of the assistant's answer.

        Raises:
            DataError: the tokenizer has no chat template.
        """
        if not self._tokenizer.chat_template:
            raise DataError(
                "problems.chat_template: the model's tokenizer has no chat template (a base model "
                "has none); leave it off"
            )
        message = [{"role": "user", "content": text}]
        shown = self._tokenizer.apply_chat_template(
            message, add_generation_prompt=True, tokenize=False
        )
        ids: list[int] = self._tokenizer(shown, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Join the ids' bytes; special tokens have none, broken UTF-8 becomes U+FFFD."""
        return b"".join(self.piece_bytes[index] for index in ids).decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, as `from_pretrained` reads them."""
        self._tokenizer.save_pretrained(str(folder))


def byte_alphabet() -> dict[str, int]:
    """Return GPT-2's map from printable characters to the 256 bytes.

    Printable Latin-1 bytes stand for themselves; the others follow from U+0100 in byte order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in set(printable)]
    alphabet = {chr(value): value for value in printable}
    alphabet.update({chr(0x100 + index): value for index, value in enumerate(others)})
    return alphabet


def _pieces(backend: Any, size: int) -> list[bytes]:
    document = json.loads(backend.to_str())
    to_bytes = _piece_rule(document.get("decoder"))
    added = {entry["id"]: entry for entry in document.get("added_tokens", [])}
    vocabulary = backend.get_vocab(with_added_tokens=True)
    pieces = [b""] * max(size, max(vocabulary.values()) + 1)
    for piece, index in vocabulary.items():
        if index in added:
            special = bool(added[index]["special"])
            pieces[index] = b"" if special else str(added[index]["content"]).encode()
        else:
            pieces[index] = to_bytes(piece)
    return pieces


def _piece_rule(decoder: dict[str, Any] | None) -> Callable[[str], bytes]:
    """Return how one vocabulary entry becomes bytes, from the tokenizer's own decoder."""
    steps = [] if decoder is None else decoder.get("decoders", [decoder])
    kinds = [step["type"] for step in steps]
    if "ByteLevel" in kinds:
        alphabet = byte_alphabet()
        return lambda piece: bytes(alphabet[character] for character in piece)
    if not set(kinds) <= {"Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"}:
        raise DataError(
            f"tokenizer decoder {' + '.join(kinds)} is not supported; supported are ByteLevel, "
            "Metaspace, Replace, ByteFallback, Fuse and Strip"
        )
    spaced = next(
        (step.get("replacement", "▁") for step in steps if step["type"] == "Metaspace"), ""
    )
    pairs = [(spaced, " ")] if spaced else []
    for step in steps:
        if step["type"] == "Replace" and "String" in step["pattern"]:
            pairs.append((step["pattern"]["String"], step["content"]))
    fallback = "ByteFallback" in kinds

    def to_bytes(piece: str) -> bytes:
        match = _BYTE_TOKEN.fullmatch(piece) if fallback else None
        if match is not None:
            return bytes([int(match.group(1), 16)])
        for old, new in pairs:
            piece = piece.replace(old, new)
        return piece.encode()

    return to_bytes
