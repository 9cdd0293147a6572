"""Settings of a policy: which backend, which model, and how its arithmetic is done.

Knows names and numbers only: building is `cupel.policy.build.build_policy`. Refuses to import
torch, so that a plan can be read and checked on a machine that has none.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cupel.config import Config

Attention = Literal["eager", "sdpa"]
Precision = Literal["medium", "high", "highest"]
Backend = Literal["tiny", "torch", "toy"]


class PolicySettings(Config):
    """How a policy computes and steps, whatever the model."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of weights and activations; log-probabilities are always float32."""
    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """Attention kernel of the scored forward; auto: eager on CPUs, sdpa elsewhere."""
    matmul_precision: Literal["auto", "medium", "high", "highest"] = "auto"
    """torch's float32 matmul precision. auto: 'medium' on x86 CPUs without AMX, where it only
    chooses the faster float32 kernels, 'highest' elsewhere."""
    microbatch_tokens: Annotated[int, Field(ge=1)] = 8192
    """Token budget of one forward and backward pass, padding included; whole groups always fit,
    so one group larger than the budget is a pass of its own. Never changes the result."""
    sample_rows: Annotated[int, Field(ge=1)] = 512
    """Most completions decoded side by side; whole groups always fit. Never changes the result."""
    logprob_chunk: Annotated[int, Field(ge=0)] = 0
    """Tokens whose full-vocabulary logits exist at once; 0: as many as fill 64 MiB."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's decay rates of the first and second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's denominator floor."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay."""
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest global gradient norm; a longer gradient is scaled down to it."""

    def of(self, backend: Backend, model: str | None) -> PolicyConfig:
        """Return the settings of a policy of this backend and model."""
        return PolicyConfig(backend=backend, model=model, **self.model_dump())


class PolicyConfig(PolicySettings):
    """A language-model policy and its optimizer."""

    backend: Backend = "tiny"
    """tiny: the shipped 134,784-parameter decoder for arithmetic in words; torch: any Hugging Face
    causal language model; toy: an exact table of softmaxes in numpy."""
    model: str | None = None
    """Model folder or hub id (torch), or a folder built by the tiny builder (tiny; None: the
    shipped start)."""
