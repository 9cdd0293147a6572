"""Every id's bytes, joined, are the library's own decoding, for each family of tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from cupel.errors import DataError
from cupel.policy.built import SHIPPED
from cupel.policy.tiny import tiny_tokenizer
from cupel.policy.tokens import PieceTokenizer, byte_alphabet
from cupel.rlvr.warm_start import ArithmeticCorpus

TEXTS = [
    "wait, let me check: 12 + 30 = 42.",
    "naïve café, größer, 東京 🙂",
    "let me let me check",
] * 4


def fast(backend: Tokenizer) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", clean_up_tokenization_spaces=False
    )


def byte_level() -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<eos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return fast(backend)


def sentencepiece() -> Any:
    """Metaspace as a normaliser, characters outside the vocabulary as bytes."""
    pieces = ["<eos>", "<unk>", *(f"<0x{value:02X}>" for value in range(256))]
    pieces += [*"▁abcdefghijklmnopqrstuvwxyz0123456789.,:+=", "le", "▁let", "ch", "▁check", "▁l"]
    merges = [("l", "e"), ("▁l", "e"), ("▁", "l"), ("c", "h")]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "▁le"])}
    backend = Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    return fast(backend)


BYTE_LEVEL, SENTENCEPIECE = byte_level(), sentencepiece()


@given(st.text(max_size=40))
def test_byte_level_pieces_are_the_decoding(text: str) -> None:
    tokenizer = PieceTokenizer(BYTE_LEVEL)
    ids = tokenizer.encode(text)
    assert b"".join(tokenizer.piece_bytes[index] for index in ids) == text.encode()
    assert tokenizer.decode(ids) == BYTE_LEVEL.decode(ids) == text


@given(st.lists(st.integers(0, 300), max_size=20))
def test_byte_level_decodes_any_ids_as_the_library_does(ids: list[int]) -> None:
    tokenizer = PieceTokenizer(BYTE_LEVEL)
    assert tokenizer.decode(ids) == BYTE_LEVEL.decode(ids, skip_special_tokens=True)


@given(st.text(alphabet="abcdefghij let check 012.,:+=🙂é東", max_size=40))
def test_sentencepiece_pieces_differ_by_the_leading_space_only(text: str) -> None:
    tokenizer = PieceTokenizer(SENTENCEPIECE)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == (" " + text if ids else "")
    assert tokenizer.decode(ids).removeprefix(" ") == SENTENCEPIECE.decode(ids)


def test_sentencepiece_byte_pieces_are_their_bytes() -> None:
    tokenizer = PieceTokenizer(SENTENCEPIECE)
    newline = SENTENCEPIECE.convert_tokens_to_ids("<0x0A>")
    assert tokenizer.piece_bytes[newline] == b"\n"


@given(st.integers(0, 2**32))
def test_arithmetic_texts_survive_word_pieces(seed: int) -> None:
    corpus, rng = ArithmeticCorpus(), np.random.default_rng(seed)
    library = tiny_tokenizer(corpus.specials, corpus.words)
    tokenizer = PieceTokenizer(library)
    for draw in (corpus.clean, corpus.mixed):
        prompt, completion = draw(rng)
        opening, both = tokenizer.encode(prompt), tokenizer.encode(prompt + completion)
        assert both[: len(opening)] == opening
        assert opening[0] == 1
        assert 3 not in both
        assert tokenizer.decode(both) == prompt + completion
        assert library.decode(both, skip_special_tokens=True) == prompt + completion


def test_special_ids_and_ids_beyond_the_tokenizer_add_nothing() -> None:
    corpus = ArithmeticCorpus()
    tokenizer = PieceTokenizer(tiny_tokenizer(corpus.specials, corpus.words), size=64)
    assert len(tokenizer.piece_bytes) == 64
    assert tokenizer.decode([0, 1, 2, 60, 63]) == ""
    assert (tokenizer.pad_id, tokenizer.eos_id) == (0, 2)


def test_the_shipped_tokenizer_is_the_one_the_builder_makes() -> None:
    corpus = ArithmeticCorpus()
    shipped = PreTrainedTokenizerFast.from_pretrained(str(SHIPPED))
    made = tiny_tokenizer(corpus.specials, corpus.words)
    assert shipped.get_vocab() == made.get_vocab()
    text = "what is 60 - 4 ? first , 60 - 4 = 56 . so the answer is \\boxed{56}"
    assert shipped(text)["input_ids"] == made(text)["input_ids"]


def test_the_byte_alphabet_has_every_byte_once() -> None:
    assert sorted(byte_alphabet().values()) == list(range(256))


def test_a_decoder_that_is_no_joining_of_pieces_is_refused() -> None:
    backend = Tokenizer(models.WordPiece({"<eos>": 0, "a": 1}, unk_token="<eos>"))
    backend.decoder = decoders.WordPiece()
    with pytest.raises(DataError, match="WordPiece"):
        PieceTokenizer(fast(backend))


def test_a_tokenizer_without_an_end_is_refused() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(DataError, match="end-of-sequence"):
        PieceTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend))


def test_a_chat_prompt_is_a_users_message() -> None:
    tokenizer = byte_level()
    plain = PieceTokenizer(tokenizer)
    with pytest.raises(DataError, match="has no chat template"):
        plain.encode_chat("hi")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    chat = PieceTokenizer(tokenizer)
    assert chat.decode(chat.encode_chat("hi")) == "user: hi\nassistant:"
    assert chat.encode("hi") == plain.encode("hi")
