"""Settings of a policy: which backend, which model, and how its arithmetic is done.

Knows names and numbers only: building is `cupel.policy.build.build_policy`. Refuses to import
torch, so that a plan can be read and checked on a machine that has none.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from cupel.config import Config
from cupel.errors import ConfigError
from cupel.policy.api_calls import plain_address
from cupel.policy.tinker.config import TinkerSettings, check_tinker

Attention = Literal["eager", "sdpa"]
Precision = Literal["medium", "high", "highest"]
Backend = Literal["tiny", "torch", "toy", "openai", "tinker"]

REMOTE = ("openai", "tinker")
"""Backends whose completions come from a server."""


class LoraSettings(Config):
    """Low-rank adapters on a frozen model (LoRA, arXiv:2106.09685); not on a table or tiny."""

    rank: Annotated[int, Field(ge=0)] = 0
    """Rank of the adapters (extra `lora`); 0: none, all weights are trained. Adapters want a
    learning rate about ten times that of a full fine-tune."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """Adapters are scaled by alpha / rank (by alpha / sqrt(rank) with `rslora`); None: 2 * rank."""
    dropout: float = 0.0
    """Must be 0: with dropout the update would score other probabilities than the sampler drew
    from, and no ratio would be exact."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the matrices that get an adapter, e.g. q_proj,v_proj; all-linear: every linear
    matrix but the head."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank), which keeps the step's size over ranks (arXiv:2312.03732)."""

    @field_validator("dropout")
    @classmethod
    def _nothing_drops(cls, value: float) -> float:
        if value != 0:
            raise ValueError(
                f"adapters with dropout {value:g} have no exact ratio of new to old policy; use 0"
            )
        return value

    @property
    def scale_alpha(self) -> float:
        """The alpha in force."""
        return 2.0 * self.rank if self.alpha is None else self.alpha


class OpenAISettings(Config):
    """The server that samples beside the trainer; backend openai only."""

    base_url: str | None = None
    """Address of the server, such as http://gpu-1:8000/v1."""
    flavour: Literal["vllm", "sglang"] = "vllm"
    """What runs there: vLLM and SGLang load adapters and return token ids by other routes."""
    served_model: str | None = None
    """The base model's name on the server; None: the same as `model`."""
    adapter_dir: str | None = None
    """Folder for the adapters' versions, on a disk that the server sees, too. Each run makes a
    folder of its own in it, and removes it at its end."""
    adapter_dir_on_server: str | None = None
    """The same folder under the name the server sees, as in a container; None: the same name."""
    api_key_variable: str | None = None
    """Environment variable that holds the server's key; None: it wants none."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Longest wait for one answer, a whole completion."""
    deadline_s: Annotated[float, Field(gt=0)] = 1800.0
    """Longest time for one answer with all its repetitions; after it the run fails."""
    retries: Annotated[int, Field(ge=0)] = 8
    """Times a call is repeated after a failure that may pass: no answer, 429, 5xx."""
    backoff_s: Annotated[float, Field(gt=0)] = 0.5
    """Wait before the first repetition; doubled each time, with jitter, up to a minute."""
    probe_tolerance: Annotated[float, Field(gt=0)] = 0.05
    """Mean |difference| in nats allowed between the server's and the trainer's log-probabilities
    of a fixed text, after every change of weights."""

    @field_validator("base_url")
    @classmethod
    def _address_is_plain(cls, value: str | None) -> str | None:
        return None if value is None else plain_address(value, example="http://host:port/v1")


class PolicySettings(Config):
    """How a policy computes and steps, whatever the model."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and activations. Log-probabilities are always float32; what is
    trained has float32 master copies and float32 gradient sums, adapters are float32 themselves."""
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """Attention kernel of the scored forward; auto: eager on CPUs, sdpa elsewhere."""
    matmul_precision: Literal["auto", "medium", "high", "highest"] = "auto"
    """torch's float32 matmul precision. auto: 'medium' on x86 CPUs without AMX, where it only
    chooses the faster float32 kernels, 'highest' elsewhere."""
    microbatch_tokens: Annotated[int, Field(ge=1)] = 8192
    """Token budget of one forward and backward pass, padding included. A group that exceeds it is
    split, its prompt read once in each part; one completion always fits. Never changes the
    result."""
    sample_rows: Annotated[int, Field(ge=1)] = 512
    """Most completions decoded side by side; whole groups always fit. Never changes the result.
    With backend openai: most requests in flight."""
    logprob_chunk: Annotated[int, Field(ge=0)] = 0
    """Tokens whose full-vocabulary logits exist at once; 0: as many as fill 64 MiB."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's decay rates of the first and second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's denominator floor."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay."""
    grad_clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest global gradient norm; a longer gradient is scaled down to it. 0: no clipping."""
    activation_checkpointing: bool = False
    """Keep only each layer's input for the backward pass and compute the rest again: less memory,
    about a third more time in the update. Never changes the result."""
    compile: bool = False
    """torch.compile of the scored passes, with dynamic shapes; sampling stays as it is. Pays on
    GPUs, after a first step that takes minutes; results differ by rounding."""
    shard: Literal["none", "layers"] = "none"
    """How several processes that train one run hold the model. none: each holds all of it.
    layers: each holds a part of every decoder layer: weights, gradients, optimizer state (FSDP);
    weights are gathered once, in `dtype`, while sampling. Never changes the result beyond
    rounding."""
    lora: LoraSettings = Field(default_factory=LoraSettings)
    """Adapters instead of all weights."""
    openai: OpenAISettings = Field(default_factory=OpenAISettings)
    """The server that samples."""
    tinker: TinkerSettings = Field(default_factory=TinkerSettings)
    """The server that samples and trains."""

    def of(self, backend: Backend, model: str | None) -> PolicyConfig:
        """Return the settings of a policy of this backend and model."""
        return PolicyConfig(backend=backend, model=model, **self.model_dump())

    @model_validator(mode="after")
    def _settings_agree(self) -> PolicySettings:
        if self.compile and self.activation_checkpointing:
            raise ValueError(
                "compile with activation_checkpointing: a layer that is computed again writes to "
                "its cache, which cannot be compiled; choose one of them"
            )
        if self.compile and self.shard != "none":
            raise ValueError(
                f"compile with shard = '{self.shard}': layers that are gathered at each pass are "
                "not compiled; choose one of them"
            )
        return self

    def check_backend(self, backend: Backend) -> None:
        """Refuse settings that this backend cannot honour.

        Raises:
            ConfigError: names the setting.
        """
        if self.shard != "none" and backend not in ("torch", "tiny"):
            raise ConfigError(
                f"policy.shard = '{self.shard}' with backend '{backend}', which one process holds; "
                "use backend = 'torch', or 'none'"
            )
        if self.tinker != TinkerSettings() and backend != "tinker":
            raise ConfigError(
                f"policy.tinker with backend '{backend}', which trains by itself; use backend = "
                "'tinker', or leave these settings out"
            )
        if backend == "openai":
            self._check_server()
            return
        if self.openai != OpenAISettings():
            raise ConfigError(
                f"policy.openai (--base-url) with backend '{backend}', which samples by itself; "
                "use backend = 'openai', or leave these settings out"
            )
        if backend == "tinker":
            plain, lora = PolicySettings(), LoraSettings()
            check_tinker(self, defaults=dict(plain), lora=dict(lora))
            return
        if backend == "torch":
            return
        if self.lora.rank:
            raise ConfigError(
                f"policy.lora.rank = {self.lora.rank} (--lora-rank) with backend '{backend}', "
                "whose model is trained whole; use backend = 'torch' with a model, or rank 0"
            )
        if backend == "toy" and (self.compile or self.activation_checkpointing):
            raise ConfigError(
                "policy.compile and policy.activation_checkpointing are for language models; "
                "backend 'toy' is a table"
            )

    def _check_server(self) -> None:
        if self.openai.base_url is None:
            raise ConfigError(
                "backend 'openai' needs policy.openai.base_url (--base-url): the address of the "
                "server that samples, such as http://localhost:8000/v1"
            )
        if self.openai.adapter_dir is None:
            raise ConfigError(
                "backend 'openai' needs policy.openai.adapter_dir: a folder that this machine "
                "writes and the server reads, for the adapters of each step"
            )
        if not self.lora.rank:
            raise ConfigError(
                "backend 'openai' brings its weights to the server as adapters; set "
                "policy.lora.rank (--lora-rank), such as 16"
            )


class PolicyConfig(PolicySettings):
    """A language-model policy and its optimizer."""

    backend: Backend = "tiny"
    """tiny: the shipped 134,784-parameter decoder for arithmetic in words; torch: any Hugging Face
    causal language model; toy: an exact table of softmaxes in numpy; openai: as torch with
    adapters, and an OpenAI-compatible server samples; tinker: a Tinker server samples and trains
    adapters."""
    model: str | None = None
    """Model folder, adapter folder or hub id (torch), its name on the server (tinker),
    or a folder built by the tiny builder (tiny; None: the shipped start)."""

    @model_validator(mode="after")
    def _backend_can(self) -> PolicyConfig:
        try:
            self.check_backend(self.backend)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self
