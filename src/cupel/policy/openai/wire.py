"""What is said to a sampling server and what its answers mean: vLLM's words and SGLang's.

Pure. Token ids go in and token ids come out; text is never read back into ids. Refuses an answer
without ids, without finite log-probabilities, or of another length than was asked for: none of
these may become a completion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cupel.errors import InfrastructureFailure

LOWEST = -9000.0
"""Servers write -9999 where a log-probability is minus infinity, which no sampled token has."""

ROUNDING = 1e-4
"""A log-probability may be this much above 0, as rounding makes it."""

_ID = "token_id:"

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One completion to be sampled; `stop_ids` end it."""

    prompt: Sequence[int]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop_ids: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One sampled completion as the server tells it, checked."""

    tokens: Sequence[int]
    logprobs: Sequence[float]
    finished: bool


class Dialect(Protocol):
    """The routes and words of one kind of server; a call is a path and a body."""

    def sampling(self, adapter: str, asked: Asked) -> tuple[str, Body]:
        """Ask for one completion."""
        ...

    def read_sample(self, answer: Any) -> tuple[Sequence[Any], Sequence[Any], str]:
        """Return token ids, log-probabilities and the reason of the end."""
        ...

    def probing(self, adapter: str, ids: Sequence[int]) -> tuple[str, Body]:
        """Ask for the log-probabilities (T = 1) of given tokens."""
        ...

    def read_probe(self, answer: Any, ids: Sequence[int]) -> Sequence[Any]:
        """Return the log-probability of every id but the first."""
        ...

    def loading(self, adapter: str, folder: str) -> tuple[str, Body]:
        """Ask for an adapter to be loaded under a name."""
        ...

    def unloading(self, adapter: str) -> tuple[str, Body]:
        """Ask for it to be forgotten."""
        ...


class Vllm:
    """vLLM: completions with `return_token_ids`, or ids as `token_id:17` in older versions.

    The neutral values of top_k, min_p and the penalties are sent, because the server otherwise
    takes those of the model's own generation settings.
    """

    def sampling(self, adapter: str, asked: Asked) -> tuple[str, Body]:
        """Ask for one completion."""
        return "/v1/completions", {
            "model": adapter,
            "prompt": list(asked.prompt),
            "max_tokens": asked.max_tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "seed": asked.seed,
            "n": 1,
            "logprobs": 1,
            "stop_token_ids": list(asked.stop_ids),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "skip_special_tokens": False,
            "add_special_tokens": False,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        }

    def read_sample(self, answer: Any) -> tuple[Sequence[Any], Sequence[Any], str]:
        """Return token ids, log-probabilities and the reason of the end."""
        choices = _of(answer, "choices")
        if len(choices) != 1:
            raise InfrastructureFailure(
                f"{len(choices)} completions in the answer; 1 was asked for"
            )
        choice = choices[0]
        logprobs = _of(choice, "logprobs", "no log-probabilities in the answer")
        found = _of(logprobs, "token_logprobs", "no log-probabilities in the answer")
        return _ids_of(choice, logprobs), found, str(choice.get("finish_reason"))

    def probing(self, adapter: str, ids: Sequence[int]) -> tuple[str, Body]:
        """Ask for the log-probabilities (T = 1) of given tokens."""
        return "/v1/completions", {
            "model": adapter,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 1,
            "add_special_tokens": False,
        }

    def read_probe(self, answer: Any, ids: Sequence[int]) -> Sequence[Any]:
        """Return the log-probability of every id but the first."""
        choice = _of(answer, "choices")[0]
        missing = "no prompt_logprobs in the answer; the server must support them"
        entries = _of(choice, "prompt_logprobs", missing)
        if len(entries) != len(ids):
            raise InfrastructureFailure(
                f"{len(entries)} prompt_logprobs for {len(ids)} tokens: the server changes prompts"
            )
        return [
            _of(_of(entry, str(token), missing), "logprob", missing)
            for entry, token in zip(entries[1:], ids[1:], strict=True)
        ]

    def loading(self, adapter: str, folder: str) -> tuple[str, Body]:
        """Ask for an adapter to be loaded under a name."""
        return "/v1/load_lora_adapter", {"lora_name": adapter, "lora_path": folder}

    def unloading(self, adapter: str) -> tuple[str, Body]:
        """Ask for it to be forgotten."""
        return "/v1/unload_lora_adapter", {"lora_name": adapter}


class Sglang:
    """SGLang: its native route, which takes and returns ids."""

    def sampling(self, adapter: str, asked: Asked) -> tuple[str, Body]:
        """Ask for one completion."""
        return "/generate", {
            "input_ids": list(asked.prompt),
            "lora_path": adapter,
            "return_logprob": True,
            "sampling_params": {
                "max_new_tokens": asked.max_tokens,
                "temperature": asked.temperature,
                "top_p": asked.top_p,
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "sampling_seed": asked.seed,
                "stop_token_ids": list(asked.stop_ids),
                "skip_special_tokens": False,
                "no_stop_trim": True,
            },
        }

    def read_sample(self, answer: Any) -> tuple[Sequence[Any], Sequence[Any], str]:
        """Return token ids, log-probabilities and the reason of the end."""
        told = _of(answer, "meta_info")
        pairs = _of(told, "output_token_logprobs", "no log-probabilities in the answer")
        ids = _of(answer, "output_ids", "no token ids in the answer")
        if [pair[1] for pair in pairs] != list(ids):
            raise InfrastructureFailure(
                "the answer's ids and log-probabilities are of other tokens"
            )
        return ids, [pair[0] for pair in pairs], str((told.get("finish_reason") or {}).get("type"))

    def probing(self, adapter: str, ids: Sequence[int]) -> tuple[str, Body]:
        """Ask for the log-probabilities (T = 1) of given tokens."""
        return "/generate", {
            "input_ids": list(ids),
            "lora_path": adapter,
            "return_logprob": True,
            "logprob_start_len": 0,
            "sampling_params": {"max_new_tokens": 1, "temperature": 0.0},
        }

    def read_probe(self, answer: Any, ids: Sequence[int]) -> Sequence[Any]:
        """Return the log-probability of every id but the first."""
        missing = "no input_token_logprobs in the answer"
        pairs = _of(_of(answer, "meta_info"), "input_token_logprobs", missing)
        if [pair[1] for pair in pairs] != list(ids):
            raise InfrastructureFailure("input_token_logprobs of other tokens than were sent")
        return [pair[0] for pair in pairs[1:]]

    def loading(self, adapter: str, folder: str) -> tuple[str, Body]:
        """Ask for an adapter to be loaded under a name."""
        return "/load_lora_adapter", {"lora_name": adapter, "lora_path": folder}

    def unloading(self, adapter: str) -> tuple[str, Body]:
        """Ask for it to be forgotten."""
        return "/unload_lora_adapter", {"lora_name": adapter}


def dialect_of(flavour: Literal["vllm", "sglang"]) -> Dialect:
    """Return the words of a kind of server."""
    match flavour:
        case "vllm":
            return Vllm()
        case "sglang":
            return Sglang()


def read_drawn(dialect: Dialect, answer: Any, asked: Asked, *, vocabulary: int) -> Drawn:
    """Read and check one completion.

    Raises:
        InfrastructureFailure: it is not a completion of what was asked; says what is wrong.
    """
    tokens, logprobs, reason = dialect.read_sample(answer)
    count = len(tokens)
    if not 1 <= count <= asked.max_tokens or len(logprobs) != count:
        raise InfrastructureFailure(
            f"{count} tokens and {len(logprobs)} log-probabilities in the answer; max_tokens is "
            f"{asked.max_tokens}"
        )
    strange = next((t for t in tokens if type(t) is not int or not 0 <= t < vocabulary), None)
    if strange is not None:
        raise InfrastructureFailure(
            f"token {strange!r} in the answer; the trainer's model has ids 0 to {vocabulary - 1}"
        )
    ends = tokens[-1] in asked.stop_ids
    _check_end(tokens, asked, reason, ends=ends)
    return Drawn(
        tokens=tokens, logprobs=checked_logprobs(logprobs, what="the answer"), finished=ends
    )


def checked_logprobs(logprobs: Sequence[Any], *, what: str) -> list[float]:
    """Return log-probabilities that are finite and not above 0.

    Raises:
        InfrastructureFailure: names the first that is not, and its place.
    """
    for place, value in enumerate(logprobs):
        number = isinstance(value, int | float) and math.isfinite(value)
        if not number or not LOWEST < value <= ROUNDING:
            raise InfrastructureFailure(
                f"log-probability {value!r} of token {place} in {what}; it must be finite and at "
                "most 0"
            )
    return [min(float(value), 0.0) for value in logprobs]


def _check_end(tokens: Sequence[int], asked: Asked, reason: str, *, ends: bool) -> None:
    inside = next((t for t in tokens[:-1] if t in asked.stop_ids), None)
    if inside is not None:
        raise InfrastructureFailure(
            f"token {inside} ends a completion and stands inside one: the server does not stop "
            f"at {list(asked.stop_ids)}"
        )
    if reason not in ("stop", "length"):
        raise InfrastructureFailure(f"the completion ended by '{reason}', not by stop or length")
    if reason == "stop" and not ends:
        raise InfrastructureFailure(
            f"the completion stopped behind token {tokens[-1]}, which is none of the trainer's "
            f"{list(asked.stop_ids)}: the server must end at these ids alone, and return them"
        )
    if reason == "length" and len(tokens) != asked.max_tokens:
        raise InfrastructureFailure(
            f"the completion was cut at {len(tokens)} of {asked.max_tokens} tokens: the server's "
            "context is too short; raise it (--max-model-len), or lower max_tokens"
        )


def _ids_of(choice: Mapping[str, Any], logprobs: Mapping[str, Any]) -> Sequence[Any]:
    ids = choice.get("token_ids")
    if isinstance(ids, list):
        return ids
    words = logprobs.get("tokens")
    if isinstance(words, list) and all(str(word).startswith(_ID) for word in words):
        return [int(str(word).removeprefix(_ID)) for word in words]
    raise InfrastructureFailure(
        "no token ids in the answer (neither token_ids nor token_id:…); text cannot be trained on, "
        "because it does not tell which tokens were sampled. Use vLLM or SGLang"
    )


def _of(table: Any, key: str, missing: str | None = None) -> Any:
    """Return an entry that must be there."""
    found = table.get(key) if isinstance(table, Mapping) else None
    if found is None or (isinstance(found, list) and not found):
        text = " ".join(str(table).split())[:120]
        raise InfrastructureFailure(missing or f"no {key} in the answer: {text}")
    return found
