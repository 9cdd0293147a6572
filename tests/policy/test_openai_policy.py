"""Sampling from a server: real sockets, a real small model, adapters read from the disk."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("openai")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="needs the extra 'lora'"
)

from cupel.errors import ConfigError, InfrastructureFailure  # noqa: E402
from cupel.policy import Completions, LossConfig, PolicyConfig, build_policy  # noqa: E402
from cupel.policy.gate import check_ratio_gate, sampler_statistics  # noqa: E402
from cupel.policy.openai.adapter_sync import Probe, followed_share  # noqa: E402
from cupel.policy.openai.policy import OpenAIPolicy  # noqa: E402
from tests.gsm8k_bed import save_model  # noqa: E402
from tests.policy.sampling_server import SamplingServer  # noqa: E402

PROMPTS = [[40, 41, 42], [50, 51, 52, 53]]
GROUP, TOKENS = 3, 10


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bed") / "model"
    return save_model(folder, width=32, layers=2, vocabulary=300, spread=0.15, ends=6.0)


@pytest.fixture
def serve(model: Path) -> Iterator[Callable[..., SamplingServer]]:
    servers: list[SamplingServer] = []

    def start(**settings: Any) -> SamplingServer:
        servers.append(SamplingServer(model, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def connect(model: Path, tmp_path: Path) -> Iterator[Callable[..., OpenAIPolicy]]:
    policies: list[OpenAIPolicy] = []

    def start(server: SamplingServer | str, rows: int = 8, **settings: Any) -> OpenAIPolicy:
        config = PolicyConfig(
            backend="openai",
            model=str(model),
            sample_rows=rows,
            lora={"rank": 4},
            openai={
                "base_url": server if isinstance(server, str) else server.url,
                "served_model": "base",
                "adapter_dir": str(tmp_path / "adapters"),
                "backoff_s": 0.01,
                "retries": 2,
                **settings,
            },
        )
        policy = build_policy(config, device="cpu", threads=1, seed=3)
        assert isinstance(policy, OpenAIPolicy)
        policies.append(policy)
        return policy

    yield start
    for policy in policies:
        policy.close()


def sample(policy: OpenAIPolicy, *, seed: int = 1, **changes: Any) -> Completions:
    settings = {"group_size": GROUP, "max_tokens": TOKENS, "temperature": 1.0, "top_p": 1.0}
    settings |= changes
    rows = len(PROMPTS) * settings["group_size"]
    uniforms_NT = np.random.default_rng(seed).random((rows, TOKENS))
    return policy.sample(PROMPTS, uniforms_NT=uniforms_NT, **settings)


def improve(policy: OpenAIPolicy, completions: Completions, *, lr: float = 1e-2) -> None:
    rows = len(completions.lengths_N)
    signs_N = np.where(np.arange(rows) % 2, 1.0, -1.0)
    policy.update(
        completions,
        trained_N=np.ones(rows, dtype=np.bool_),
        credit=lambda rows_B, logs_BT, _: signs_N[rows_B][:, None] * np.ones(logs_BT.shape),
        loss=LossConfig(),
        lr=lr,
    )


@pytest.mark.parametrize("flavour", ["vllm", "sglang"])
def test_completions_are_tokens_of_the_trainers_own_policy(
    serve: Any, connect: Any, flavour: str
) -> None:
    server = serve()
    policy = connect(server, flavour=flavour)
    completions = sample(policy)
    mask_NT = completions.mask_NT
    assert completions.tokens_NT.shape == (6, TOKENS)
    assert set(completions.finished_N.tolist()) == {True, False}
    for tokens, length, finished in zip(
        completions.tokens_NT, completions.lengths_N, completions.finished_N, strict=True
    ):
        assert finished == (tokens[length - 1] == policy.tokenizer.eos_id)
        assert finished or length == TOKENS
        assert (tokens[length:] == policy.tokenizer.pad_id).all()
    scores = policy.score(completions)
    assert check_ratio_gate(completions, scores) == pytest.approx(1, abs=1e-4)
    assert np.array_equal(completions.sampler_logprobs_NT, completions.policy_logprobs_NT)
    assert (completions.sampler_logprobs_NT[~mask_NT] == 0).all()
    sent = server.sampled()[-6:]
    key = "input_ids" if flavour == "sglang" else "prompt"
    assert sorted(body[key] for body in sent) == sorted(p for p in PROMPTS for _ in range(GROUP))
    again = sample(policy)
    assert np.array_equal(again.tokens_NT, completions.tokens_NT)
    assert not np.array_equal(sample(policy, seed=2).tokens_NT, completions.tokens_NT)


def test_every_completion_has_a_seed_of_its_own_and_neutral_settings(
    serve: Any, connect: Any
) -> None:
    server = serve()
    sample(connect(server))
    sent = server.sampled()[-6:]
    assert len({body["seed"] for body in sent}) == 6
    for body in sent:
        assert (body["n"], body["top_k"], body["repetition_penalty"]) == (1, -1, 1.0)
        assert body["stop_token_ids"] == [1]
        assert body["return_token_ids"] is True


@pytest.mark.parametrize("flavour", ["vllm", "sglang"])
def test_new_weights_arrive_before_the_next_sample_and_the_old_ones_go(
    serve: Any, connect: Any, flavour: str, tmp_path: Path
) -> None:
    server = serve()
    policy = connect(server, flavour=flavour)
    first = policy.verified
    assert first is not None
    assert first.followed is None
    for _ in range(2):
        improve(policy, sample(policy))
    completions = sample(policy)
    found = policy.verified
    assert found is not None
    assert found.version != first.version
    assert found.followed == pytest.approx(1, abs=0.05)
    assert found.largest_difference < 1e-4
    check_ratio_gate(completions, policy.score(completions))
    assert list(server.loaded) == [found.version]
    (home,) = (tmp_path / "adapters").iterdir()
    assert [folder.name for folder in home.iterdir()] == [found.version]
    policy.close()
    assert server.loaded == {}
    assert list((tmp_path / "adapters").iterdir()) == []


def test_a_batch_that_trains_nothing_moves_no_weights(serve: Any, connect: Any) -> None:
    server = serve()
    policy = connect(server)
    completions = sample(policy)
    policy.update(
        completions,
        trained_N=np.zeros(6, dtype=np.bool_),
        credit=lambda rows_B, logs_BT, _: logs_BT,
        loss=LossConfig(),
        lr=1e-2,
    )
    before = policy.verified
    sample(policy)
    assert policy.verified is before


@pytest.mark.parametrize("lr", [1e-2, 3e-1])
def test_stale_weights_stop_the_policy(serve: Any, connect: Any, lr: float) -> None:
    """After a small step the server is still within the tolerance: that it stayed betrays it."""
    server = serve()
    policy = connect(server)
    improve(policy, sample(policy))  # the first step moves B only from zero
    sample(policy)
    server.faults.add("stale")
    improve(policy, sample(policy, seed=5), lr=lr)
    with pytest.raises(InfrastructureFailure, match=r"adapter cupel-\w+-2: .* at most .*stale"):
        sample(policy)


def test_a_restored_policy_is_brought_to_the_server(
    serve: Any, connect: Any, tmp_path: Path
) -> None:
    policy = connect(serve())
    improve(policy, sample(policy))
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    policy.save(folder)
    kept = sample(policy)
    improve(policy, kept)
    sample(policy)
    policy.load(folder)
    back = sample(policy)
    assert np.array_equal(back.tokens_NT, kept.tokens_NT)
    check_ratio_gate(back, policy.score(back))


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        ({"no_ids"}, "no token ids in the answer"),
        ({"text"}, "no log-probabilities in the answer"),
        ({"no_logprobs"}, "no log-probabilities in the answer"),
        ({"nan"}, "log-probability nan of token"),
        ({"short"}, "log-probabilities in the answer"),
        ({"no_stop"}, "tokens and 2 log-probabilities in the answer"),
        ({"refuse"}, "the key is not accepted"),
        ({"no_lora"}, "--enable-lora"),
        ({"odd"}, "they are of neither distribution"),
    ],
)
def test_a_server_that_cannot_do_it_is_refused_at_once(
    serve: Any, connect: Any, faults: set[str], says: str, tmp_path: Path
) -> None:
    server = serve()
    server.faults |= faults
    with pytest.raises(ConfigError, match="backend 'openai'") as refused:
        connect(server)
    assert says in str(refused.value)
    assert list((tmp_path / "adapters").glob("*")) == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("no_ids", "no token ids in the answer"),
        ("text", "no log-probabilities"),
        ("nan", "log-probability nan"),
        ("short", "log-probabilities in the answer"),
        ("cut", "was cut at 2 of 10 tokens"),
        ("no_stop", "stands inside one"),
    ],
)
def test_an_unusable_completion_fails_the_run_and_leaves_no_hole(
    serve: Any, connect: Any, fault: str, says: str
) -> None:
    server = serve()
    policy = connect(server)
    server.faults.add(fault)
    with pytest.raises(InfrastructureFailure, match=r"completion \d of 6 by cupel-") as failure:
        sample(policy)
    assert says in str(failure.value)


def test_older_vllm_tells_ids_in_words(serve: Any, connect: Any) -> None:
    server = serve()
    plain = sample(connect(server))
    server.faults.add("old_ids")
    assert np.array_equal(sample(connect(server)).tokens_NT, plain.tokens_NT)


def test_overload_is_waited_out_and_changes_nothing(serve: Any, connect: Any) -> None:
    server = serve()
    policy = connect(server, retries=3)
    plain = sample(policy)
    server.turned_away = [429, 503, 500]
    assert np.array_equal(sample(policy).tokens_NT, plain.tokens_NT)
    server.turned_away = [500] * 100
    with pytest.raises(InfrastructureFailure, match=r"4 failed calls in .*not now"):
        sample(policy)


def test_a_refusal_is_not_repeated(serve: Any, connect: Any) -> None:
    server = serve()
    policy = connect(server, rows=1)
    before = len(server.requests)
    server.turned_away = [400]
    with pytest.raises(InfrastructureFailure, match=r"the server refuses .*not now"):
        sample(policy)
    assert len(server.requests) == before + 1


def test_no_answer_in_time_is_a_failure(serve: Any, connect: Any) -> None:
    server = serve()
    policy = connect(server, timeout_s=60.0, deadline_s=4.0)
    server.slow_s = 8.0
    with pytest.raises(InfrastructureFailure, match=r"1 failed calls in .*timed out"):
        sample(policy, group_size=1)


@pytest.mark.parametrize("rows", [1, 4])
def test_no_more_requests_are_in_flight_than_allowed(serve: Any, connect: Any, rows: int) -> None:
    server = serve()
    policy = connect(server)
    policy.set_concurrency("sample_rows", rows)
    server.most_under_way, server.slow_s = 0, 0.02
    sample(policy)
    assert server.most_under_way == rows


def test_at_another_temperature_q_is_told_and_pi_is_the_trainers(serve: Any, connect: Any) -> None:
    policy = connect(serve())
    assert policy.told == "processed"
    for settings in ({"temperature": 0.5}, {"temperature": 1.0, "top_p": 0.7}):
        found = sample(policy, **settings)
        scores = policy.score(found)
        assert np.array_equal(found.policy_logprobs_NT, scores.logprobs_NT)
        assert sampler_statistics(found, scores.logprobs_NT).sampler_kl > 0.01
        assert (found.sampler_logprobs_NT <= 0).all()
    greedy = sample(policy, temperature=0.0, group_size=1)
    assert (greedy.sampler_logprobs_NT == 0).all()
    check_ratio_gate(greedy, policy.score(greedy))


def test_a_server_that_hides_q_samples_at_temperature_1_only(serve: Any, connect: Any) -> None:
    policy = connect(serve(told="raw"))
    assert policy.told == "raw"
    check_ratio_gate(sample(policy), policy.score(sample(policy)))
    sample(policy, temperature=0.0, group_size=1)
    with pytest.raises(ConfigError, match="--logprobs-mode processed_logprobs"):
        sample(policy, temperature=0.5)
    sglang = connect(serve(), flavour="sglang")
    with pytest.raises(ConfigError, match=r"Use top_p = 1"):
        sample(sglang, top_p=0.9)


def test_another_base_model_is_refused(
    serve: Any, connect: Any, tmp_path: Path, model: Path
) -> None:
    other = save_model(
        tmp_path / "other", width=32, layers=2, vocabulary=300, spread=0.15, ends=6.0, seed=9
    )
    server = SamplingServer(other)
    try:
        with pytest.raises(ConfigError, match="its base model or precision is another"):
            connect(server)
        with pytest.raises(ConfigError, match="serves no model 'nobody'; it has base"):
            connect(server, served_model="nobody")
    finally:
        server.close()


def test_nobody_there_is_one_line(connect: Any) -> None:
    with pytest.raises(ConfigError, match=r"backend 'openai': http://127.0.0.1:9/v1/models: 3 fai"):
        connect("http://127.0.0.1:9/v1")


def test_the_key_is_sent_and_never_told(
    serve: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    with pytest.raises(ConfigError, match="CUPEL_TEST_KEY holds no key"):
        connect(server, api_key_variable="CUPEL_TEST_KEY")
    monkeypatch.setenv("CUPEL_TEST_KEY", "who are")
    policy = connect(server, api_key_variable="CUPEL_TEST_KEY")
    assert server.keys == {"Bearer who are"}
    assert "who are" not in str(policy.describe())
    server.faults.add("refuse")
    with pytest.raises(InfrastructureFailure) as failure:
        sample(policy)
    assert "who are" not in str(failure.value)


def test_the_record_names_the_server(serve: Any, connect: Any) -> None:
    server = serve()
    said = connect(server).describe()
    assert said["backend"] == "openai"
    assert said["sampler"]["base_url"] == server.url
    assert said["sampler"]["logprobs"] == "processed"
    assert said["sampler"]["probe_mean_difference"] < 1e-4


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"openai": {"adapter_dir": "a"}, "lora": {"rank": 4}}, "base-url"),
        ({"openai": {"base_url": "http://x/v1"}, "lora": {"rank": 4}}, "adapter_dir"),
        ({"openai": {"base_url": "http://x/v1", "adapter_dir": "a"}}, "lora-rank"),
        ({"openai": {"base_url": "x:8000"}}, "write http://host:port/v1"),
        ({"openai": {"base_url": "http://me:key@x/v1"}}, "api_key_variable"),
        ({"backend": "torch", "openai": {"base_url": "http://x/v1"}}, "samples by itself"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PolicyConfig(**{"backend": "openai", "model": "m", **settings})


def test_the_servers_move_is_measured_along_the_trainers() -> None:
    rng = np.random.default_rng(0)
    start_K, move_K = -rng.random(20), 0.01 * rng.normal(size=20)
    anchor = Probe(trainer_K=start_K, server_K=start_K + 1e-3 * rng.normal(size=20))

    def share(theirs_K: Any, ours_K: Any = move_K) -> float | None:
        now = Probe(trainer_K=start_K + ours_K, server_K=anchor.server_K + theirs_K)
        return followed_share(anchor, now)

    assert share(move_K) == pytest.approx(1)
    assert share(0 * move_K) == pytest.approx(0)
    assert share(move_K / 2) == pytest.approx(0.5)
    assert share(0 * move_K, 0.02 * move_K) is None  # beneath what the two disagreed by
