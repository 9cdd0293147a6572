"""Action scores: those of a plain forward pass, the same bits in any company, or a refusal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from cupel.errors import DataError
from cupel.policy import PolicyConfig
from cupel.policy.actions import ActionRequest, ActionScorer
from cupel.policy.tiny import tiny_tokenizer
from cupel.policy.tokens import PieceTokenizer
from cupel.policy.torch_policy import TorchPolicy

WORDS = (*(f" w{index:02d}" for index in range(50)), "\ngo:", "go:")
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
VOCABULARY = len(SPECIALS) + len(WORDS)
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.15,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "max_position_embeddings": 256,
}


def configuration(name: str) -> Any:
    sizes = dict(SIZES)
    if name == "GPT2":
        sizes = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4}
        sizes |= {"eos_token_id": 2, "initializer_range": 0.15, "n_positions": 256}
    if name == "OPT":
        sizes |= {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.15}
        for key in ("num_key_value_heads", "intermediate_size", "initializer_range"):
            del sizes[key]
    return getattr(transformers, f"{name}Config")(**sizes)


def policy(name: str = "Qwen3", **settings: Any) -> TorchPolicy:
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(configuration(name))
    config = PolicyConfig(backend="torch", **settings)
    return TorchPolicy(model, tiny_tokenizer(SPECIALS, WORDS), config, threads=1)


def scorer_of(made: TorchPolicy, **settings: Any) -> ActionScorer:
    assert isinstance(made.tokenizer, PieceTokenizer)
    return ActionScorer(made.lm, made.tokenizer, **settings)


def requests(count: int, *, longest: int = 90, seed: int = 0) -> list[ActionRequest]:
    rng = np.random.default_rng(seed)

    def text(length: int) -> str:
        return "".join(WORDS[at] for at in rng.integers(0, 50, length))

    return [
        ActionRequest(
            prompt=text(int(rng.integers(3, longest))) + "\ngo:",
            completions=tuple(
                text(int(rng.integers(1, 6))) for _ in range(int(rng.integers(1, 8)))
            ),
        )
        for _ in range(count)
    ]


def reference(made: TorchPolicy, request: ActionRequest) -> list[list[float]]:
    """Score each action by a forward pass of its own, in float64, without a cache."""
    model = made.lm.model.double()
    model.config._attn_implementation = "eager"
    found = []
    try:
        for completion in request.completions:
            prompt = made.tokenizer.encode(request.prompt)
            ids = [*made.tokenizer.encode(request.prompt + completion), made.tokenizer.eos_id]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids[:-1]]), use_cache=False).logits[0]
            logs = torch.log_softmax(logits, dim=-1)
            found.append([float(logs[t - 1, ids[t]]) for t in range(len(prompt), len(ids))])
    finally:
        model.float()
    return found


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["Qwen3", "Llama", "Qwen2", "GPT2", "OPT"])
def test_scores_are_those_of_one_forward_an_action(name: str, attention: str) -> None:
    made = policy(name, attention=attention)
    asked = requests(12)
    sums = scorer_of(made).log_scores(asked)
    means = scorer_of(made, length="mean").log_scores(asked)
    for request, total, mean in zip(asked, sums, means, strict=True):
        tokens = reference(made, request)
        np.testing.assert_allclose(total, [sum(each) for each in tokens], rtol=0, atol=1e-5)
        np.testing.assert_allclose(
            mean, [sum(each) / len(each) for each in tokens], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("name", ["Qwen3", "GPT2"])
def test_equal_requests_get_equal_bits_in_any_company(name: str, threads: int) -> None:
    made = policy(name)
    torch.set_num_threads(threads)
    asked = requests(30)
    alone = [scorer_of(made).log_scores([request])[0].tobytes() for request in asked]
    rng = np.random.default_rng(3)
    for size in (2, 3, 7, 30, 64):
        chosen = rng.integers(0, len(asked), size)
        found = scorer_of(made).log_scores([asked[at] for at in chosen])
        assert [scores.tobytes() for scores in found] == [alone[at] for at in chosen]


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(12)), cut=st.integers(1, 11))
def test_bits_do_not_depend_on_order_or_cuts(order: list[int], cut: int) -> None:
    asked = requests(12, longest=40)
    scorer = _shared()
    whole = scorer.log_scores(asked)
    parts = scorer.log_scores([asked[at] for at in order[:cut]])
    parts += scorer.log_scores([asked[at] for at in order[cut:]])
    for at, scores in zip(order, parts, strict=True):
        assert scores.tobytes() == whole[at].tobytes()


def _shared() -> ActionScorer:
    if not _KEPT:
        _KEPT.append(scorer_of(policy()))
    return _KEPT[0]


_KEPT: list[ActionScorer] = []


def test_an_action_does_not_see_its_neighbours() -> None:
    scorer = scorer_of(policy())
    [full] = scorer.log_scores(
        [ActionRequest(prompt=" w01 w02\ngo:", completions=(" w03 w04", " w05", " w04"))]
    )
    [turned] = scorer.log_scores(
        [ActionRequest(prompt=" w01 w02\ngo:", completions=(" w04", " w03 w04", " w06 w07"))]
    )
    np.testing.assert_allclose(full[[0, 2]], turned[[1, 0]], rtol=0, atol=1e-6)


def test_first_tokens_and_ends_are_a_distribution() -> None:
    scorer = scorer_of(policy())
    single = tuple(word for word in WORDS if word.startswith(" "))
    prompt = " w01 w02\ngo:"
    [ended] = scorer.log_scores([ActionRequest(prompt=prompt, completions=single)])
    pairs = tuple(one + other for one in single[:3] for other in WORDS)
    [longer] = scorer.log_scores([ActionRequest(prompt=prompt, completions=pairs)])
    assert 0.0 < float(np.exp(ended).sum()) < 1.0
    assert float(np.exp(ended).sum() + np.exp(longer).sum()) < 1.0


def test_what_was_run_is_counted() -> None:
    scorer = scorer_of(policy())
    request = ActionRequest(prompt=" w01 strange w02\ngo:", completions=(" w03", " odd"))
    scorer.log_scores([request, request])
    assert scorer.scored == 2
    assert scorer.unknown_tokens == 2 * 2
    assert scorer.tokens == 2 * (5 + 1 + 1)


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (ActionRequest(prompt=" w01\ngo:", completions=()), "no actions"),
        (ActionRequest(prompt=" w01\ngo:", completions=("",)), "has no tokens"),
        (
            ActionRequest(prompt=" w01" * 254 + "\ngo:", completions=(" w02",)),
            "256 tokens and action of 1 are longer than the model's 256 positions",
        ),
    ],
    ids=["no actions", "empty action", "too long"],
)
def test_what_cannot_be_scored_is_named(request_: ActionRequest, named: str) -> None:
    with pytest.raises(DataError, match=named):
        scorer_of(policy()).log_scores([request_])


def test_the_longest_prompt_that_fits_is_scored() -> None:
    made = policy("GPT2")
    asked = ActionRequest(prompt=" w01" * 253 + "\ngo:", completions=(" w02", " w03"))
    [scores] = scorer_of(made).log_scores([asked])
    want = [sum(each) for each in reference(made, asked)]
    np.testing.assert_allclose(scores, want, rtol=0, atol=1e-5)


def test_a_boundary_inside_a_token_is_refused() -> None:
    backend = tiny_tokenizer(SPECIALS, (*WORDS, "go: w01"))
    made = policy()
    scorer = ActionScorer(made.lm, PieceTokenizer(backend))
    with pytest.raises(DataError, match="do not break where the prompt ends"):
        scorer.log_scores([ActionRequest(prompt=" w02 go:", completions=(" w01",))])
