"""What servers say and what it means, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from cupel.errors import InfrastructureFailure
from cupel.policy.openai.wire import Asked, Sglang, Vllm, checked_logprobs, dialect_of, read_drawn

ASKED = Asked(prompt=[7, 8], max_tokens=3, temperature=1.0, top_p=1.0, seed=5, stop_ids=[1])


def vllm_answer(
    ids: list[Any], logprobs: list[Any] | None = None, reason: str = "stop"
) -> dict[str, Any]:
    told = {"token_logprobs": [-0.5] * len(ids) if logprobs is None else logprobs}
    return {"choices": [{"token_ids": ids, "logprobs": told, "finish_reason": reason}]}


def sglang_answer(ids: list[int], reason: str = "stop") -> dict[str, Any]:
    pairs = [[-0.5, token, None] for token in ids]
    told = {"output_token_logprobs": pairs, "finish_reason": {"type": reason}}
    return {"output_ids": ids, "meta_info": told}


@pytest.mark.parametrize(
    ("answer", "flavour"), [(vllm_answer([4, 5, 1]), "vllm"), (sglang_answer([4, 5, 1]), "sglang")]
)
def test_both_words_for_one_completion(answer: Any, flavour: Any) -> None:
    drawn = read_drawn(dialect_of(flavour), answer, ASKED, vocabulary=9)
    assert (list(drawn.tokens), drawn.logprobs, drawn.finished) == ([4, 5, 1], [-0.5] * 3, True)


def test_a_full_completion_has_not_finished_unless_it_ends_in_a_stop_token() -> None:
    cut = read_drawn(Vllm(), vllm_answer([4, 5, 6], reason="length"), ASKED, vocabulary=9)
    assert not cut.finished
    ended = read_drawn(Vllm(), vllm_answer([4, 5, 1], reason="length"), ASKED, vocabulary=9)
    assert ended.finished


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("<html>", "no choices in the answer: <html>"),
        ({"choices": []}, "no choices in the answer"),
        ({"choices": vllm_answer([1])["choices"] * 2}, "2 completions in the answer"),
        (vllm_answer([4, 4, 4, 1]), "4 tokens and 4 log-probabilities"),
        (vllm_answer([4, 1], [-0.5]), "2 tokens and 1 log-probabilities"),
        (vllm_answer([]), "no log-probabilities in the answer"),
        (vllm_answer([4, 9, 1]), "token 9 in the answer; the trainer's model has ids 0 to 8"),
        (vllm_answer([4, True, 1]), "token True"),
        (vllm_answer([4, "5", 1]), "token '5'"),
        (vllm_answer([1, 4, 1]), "token 1 ends a completion and stands inside one"),
        (vllm_answer([4, 5]), "stopped behind token 5, which is none of the trainer's"),
        (vllm_answer([4, 5], reason="length"), "was cut at 2 of 3 tokens"),
        (vllm_answer([4, 1], reason="abort"), "ended by 'abort'"),
        (vllm_answer([4, 1], [-0.5, None]), "log-probability None of token 1"),
        (vllm_answer([4, 1], [0.1, -0.5]), "log-probability 0.1 of token 0"),
        (vllm_answer([4, 1], [-9999.0, -0.5]), "log-probability -9999.0"),
        (vllm_answer([4, 1], [float("-inf"), -0.5]), "log-probability -inf"),
    ],
)
def test_what_is_no_completion_is_refused(answer: Any, says: str) -> None:
    with pytest.raises(InfrastructureFailure) as refused:
        read_drawn(Vllm(), answer, ASKED, vocabulary=9)
    assert says in str(refused.value)


def test_sglangs_ids_and_logprobs_must_be_of_the_same_tokens() -> None:
    answer = sglang_answer([4, 5, 1]) | {"output_ids": [4, 6, 1]}
    with pytest.raises(InfrastructureFailure, match="are of other tokens"):
        read_drawn(Sglang(), answer, ASKED, vocabulary=9)


def test_rounding_above_0_is_cut_off() -> None:
    assert checked_logprobs([1e-6, -2], what="here") == [0.0, -2.0]


def test_a_probe_is_the_logprobs_of_the_very_tokens_sent() -> None:
    told = [None, {"8": {"logprob": -1.0}, "3": {"logprob": -0.2}}, {"9": {"logprob": -2.0}}]
    vllm = Vllm()
    assert vllm.read_probe({"choices": [{"prompt_logprobs": told}]}, [7, 8, 9]) == [-1.0, -2.0]
    with pytest.raises(InfrastructureFailure, match="the server changes prompts"):
        vllm.read_probe({"choices": [{"prompt_logprobs": [None, *told]}]}, [7, 8, 9])
    with pytest.raises(InfrastructureFailure, match="no prompt_logprobs"):
        vllm.read_probe({"choices": [{"prompt_logprobs": told}]}, [7, 8, 4])
    pairs = [[None, 7, None], [-1.0, 8, None]]
    sglang = Sglang()
    answer = {"meta_info": {"input_token_logprobs": pairs}}
    assert sglang.read_probe(answer, [7, 8]) == [-1.0]
    with pytest.raises(InfrastructureFailure, match="other tokens than were sent"):
        sglang.read_probe(answer, [7, 9])


@pytest.mark.parametrize("flavour", ["vllm", "sglang"])
def test_what_models_would_change_by_themselves_is_sent_as_off(flavour: Any) -> None:
    _, body = dialect_of(flavour).sampling("a", ASKED)
    settings = body.get("sampling_params", body)
    assert (settings["top_k"], settings["min_p"], settings["repetition_penalty"]) == (-1, 0.0, 1.0)
    assert settings["stop_token_ids"] == [1]
    assert settings["skip_special_tokens"] is False
