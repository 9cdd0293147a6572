"""The settings of one rlvr training run, with the defaults that depend on the backend.

Knows names, types, meanings and defaults. Refuses to know how any of it is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cupel.config import Config
from cupel.errors import ConfigError
from cupel.policy.config import REMOTE, Backend, PolicySettings
from cupel.policy.gate import HALF_TOLERANCE, LOCAL_TOLERANCE, REMOTE_TOLERANCE
from cupel.policy.losses import check_loss
from cupel.policy.protocol import LossConfig
from cupel.policy.tinker.config import check_method
from cupel.rlvr.advantages import OF_THE_BATCH, AdvantageMode, Normalize
from cupel.rlvr.algorithms import Algorithm, condition_label, expanded, objective_of
from cupel.rlvr.credit import TransformMode, UncertaintyKind
from cupel.rlvr.problems import ProblemsConfig
from cupel.rlvr.schedules import LearningRateShape


class HeldOutConfig(Config):
    """How a policy is asked on held-out problems, in training and afterwards alike."""

    problems: int = Field(default=256, ge=1)
    """How many held-out problems; always the same ones, in every run of every condition."""
    samples: int = Field(default=1, ge=1)
    """Completions a problem."""
    pass_at: tuple[int, ...] = (1,)
    """Every k for which pass@k is reported, without bias from all samples; at most `samples`."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of `accuracy` and pass@k."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampler in evaluations."""
    greedy: bool = True
    """Also measure greedy decoding (`greedy_accuracy`)."""

    @model_validator(mode="after")
    def _samples_suffice(self) -> HeldOutConfig:
        if len(set(self.pass_at)) != len(self.pass_at) or any(k < 1 for k in self.pass_at):
            raise ValueError(f"pass_at = {list(self.pass_at)}: give different whole numbers >= 1")
        most = max(self.pass_at, default=1)
        if most > self.samples:
            raise ValueError(
                f"pass@{most} needs at least {most} samples a problem, samples = {self.samples}; "
                f"raise samples, or lower pass_at"
            )
        return self


class EvaluationConfig(HeldOutConfig):
    """Held-out evaluation: before the first step, every `every` steps, and after the last."""

    every: int = Field(default=20, ge=1)
    """Steps between evaluations."""
    start_band: tuple[float, float] | None = None
    """Closed band in which the accuracy before training must lie, up to sampling error; outside,
    the run is refused. It catches a wrong checkpoint before any compute is spent."""

    @field_validator("start_band")
    @classmethod
    def _band_is_a_band(cls, band: tuple[float, float] | None) -> tuple[float, float] | None:
        if band is not None and not 0 <= band[0] <= band[1] <= 1:
            raise ValueError("use two rates, 0 <= low <= high <= 1, such as [0.15, 0.25]")
        return band


class SepaConstants(Config):
    """Constants of the auto schedule, beyond what is usually set."""

    ema_decay: float = Field(default=0.99, gt=0, lt=1)
    """Decay of the moving average of the execution variance, per batch."""
    threshold: float = Field(default=0.2, gt=0)
    """The variance ratio at which the auto schedule leaves 0."""
    warmup: int = Field(default=50, ge=1)
    """Batches before the reference variance is frozen."""
    reanchor: bool = False
    """On opening of the gate, start the ramp there instead of jumping to the ramp's value."""


class BackPressureConfig(Config):
    """Concurrency chosen from measured throughput, by the Universal Scalability Law."""

    enabled: bool = False
    """Sweep concurrency in the first steps, fit its throughput, and use what the fit says."""
    changes: Literal["concurrency", "batch_size"] = "concurrency"
    """concurrency: only how much runs side by side, which leaves the experiment alone; batch_size:
    the problems a step, which changes it, and makes the run depend on the machine's speed."""
    stage: Literal["sampling", "update"] = "sampling"
    """Whose concurrency: sampling sets policy.sample_rows, update sets policy.microbatch_tokens.
    The value given there is the ceiling. update regroups sums, so last bits of losses may move."""
    warmup_steps: int = Field(default=10, ge=3)
    """Steps of a sweep, dealt evenly to the concurrencies tried; each at least once."""
    window: int = Field(default=100, ge=10)
    """Steps after which an observation is forgotten, and its concurrency tried again."""
    throttle_margin: float = Field(default=0.85, gt=0, le=1)
    """Share of the peak p* to aim at; just below it throughput is nearly the same for less
    memory."""
    increase_margin: float = Field(default=0.5, gt=0, lt=1)
    """Share of that aim under which concurrency is raised; between there and the peak it stays."""
    max_concurrency: int | None = Field(default=None, ge=1)
    """Ceiling in place of the policy's setting: completions (sampling) or tokens (update)."""
    min_batch_size: int = Field(default=1, ge=1)
    """Fewest problems a step, when batch_size may change."""
    max_batch_size: int = Field(default=64, ge=1)
    """Most problems a step, when batch_size may change."""
    peak_gflops: float = Field(default=0.0, ge=0)
    """The machine's matmul rate (`cupel doctor` measures it); with peak_gb_per_s it places the
    border of memory_bound and compute_bound. 0: read off the fitted curve."""
    peak_gb_per_s: float = Field(default=0.0, ge=0)
    """The machine's memory bandwidth; 0: read off the fitted curve."""

    @model_validator(mode="after")
    def _settings_agree(self) -> BackPressureConfig:
        if self.min_batch_size > self.max_batch_size:
            raise ValueError(
                f"min_batch_size = {self.min_batch_size} is above max_batch_size = "
                f"{self.max_batch_size}; swap them"
            )
        if (self.peak_gflops > 0) != (self.peak_gb_per_s > 0):
            raise ValueError("peak_gflops and peak_gb_per_s go together; give both or neither")
        return self


class TrainConfig(Config):
    """One run of reinforcement learning with verifiable rewards."""

    backend: Backend = "tiny"
    """tiny: a model shipped with Cupel; torch: any Hugging Face causal LM; toy: a numpy table;
    openai: as torch with adapters, while an OpenAI-compatible server samples; tinker: a Tinker
    server, hosted or your own, samples and trains adapters."""
    model: str | None = None
    """Model folder or hub id (backends torch and openai), or its name on the server (tinker)."""
    algorithm: Algorithm | None = None
    """Shorthand: grpo = grpo+none; full = maxrl+gtpo_sepa; rloo, reinforce_pp, dr_grpo, dapo, gspo,
    cispo: modes and loss of their papers. Excludes other values of what it stands for."""
    advantage_mode: AdvantageMode = "maxrl"
    """Advantage of a completion: within its group, or within the batch (reinforce_pp)."""
    transform_mode: TransformMode = "gtpo_sepa"
    """Shaping of the advantage over a completion's tokens; gtpo_paper and entropy_mask first score
    the whole batch, one forward pass more."""
    normalize: Normalize = "none"
    """std divides GRPO's advantages by the group's standard deviation + 1e-6 (arXiv:2402.03300)."""
    max_steps: int = Field(default=500, ge=1)
    """Training steps."""
    batch_size: int = Field(default=8, ge=1)
    """Problems a step."""
    group_size: int = Field(default=16, ge=1)
    """Completions a problem."""
    max_tokens: int = Field(default=2048, ge=1)
    """Longest completion, in tokens."""
    temperature: float = Field(default=0.7, gt=0)
    """Sampling temperature in training."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the sampler. Below 1 the sampler and the trained policy differ on purpose."""
    lr: float = Field(default=4e-5, gt=0)
    """Peak learning rate of AdamW. Adapters want about ten times the rate of a full fine-tune."""
    lr_schedule: LearningRateShape = "constant"
    """What the rate does after the warm-up: stays, or falls as a line or a cosine towards
    lr * lr_min_ratio at the end of the run."""
    lr_warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the rate rises to lr."""
    lr_min_ratio: float = Field(default=0.0, ge=0, le=1)
    """Where linear and cosine end, as a share of lr."""
    uninformative_groups: Literal["drop", "keep", "resample"] = "drop"
    """Groups whose rewards are all equal teach nothing. drop: they are scored and logged, and count
    neither in the update nor in the loss's normaliser; keep: they count in the normaliser;
    resample: as drop, and more problems are sampled until batch_size groups differ (DAPO)."""
    resample_rounds: int = Field(default=3, ge=1)
    """Most rounds of batch_size problems a step under resample, the first included. A step that
    finds fewer groups trains on those it found."""
    overlong_buffer_rate: float = Field(default=0.0, ge=0, le=1)
    """Last share of max_tokens in which a completion is penalised for its length, linearly (DAPO's
    soft overlong punishment); 0: none. It enters the advantages, never correct_rate."""
    overlong_penalty: float = Field(default=0.5, gt=0)
    """Penalty of a completion of max_tokens; DAPO's 1 on rewards of -1 and 1 is 0.5 on 0 and 1."""
    updates_per_batch: int = Field(default=1, ge=1)
    """Optimizer steps on each batch; more than 1 wants a loss that bounds the ratio."""
    loss: LossConfig = Field(default_factory=LossConfig)
    """The policy-gradient loss."""
    gtpo_beta: float = Field(default=0.1, ge=0)
    """GTPO entropy weighting; 0 is uniform."""
    gtpo_normalize: Literal["advantage", "outcome"] = "advantage"
    """gtpo_paper only. advantage: its weights multiply the advantage; outcome: the paper's own
    normalisation, successes and failures each to mean 0 by themselves."""
    entropy_top_share: float = Field(default=0.2, gt=0, le=1)
    """entropy_mask only: share of the batch's tokens, those of highest entropy, that get credit."""
    hicra_alpha: float = Field(default=0.2, ge=0, lt=1)
    """HICRA amplification of planning tokens."""
    hicra_after_sepa: bool = False
    """Amplify planning tokens after gtpo_sepa too; the condition label then ends in `+hicra`."""
    sepa_steps: int = Field(default=500, ge=0)
    """Steps over which SEPA's lambda ramps from 0 to 1; 0: at once after the delay."""
    sepa_schedule: Literal["linear", "auto"] = "linear"
    """linear ramp, or auto: driven by the fall of the execution variance, never below the ramp."""
    sepa_delay_steps: int = Field(default=50, ge=0)
    """Steps before the ramp begins."""
    sepa_correct_rate_gate: float = Field(default=0.1, le=1)
    """SEPA stays off until one batch reaches this correct rate; <= 0: always open."""
    sepa: SepaConstants = Field(default_factory=SepaConstants)
    """Constants of the auto schedule."""
    uncertainty_kind: UncertaintyKind = "entropy"
    """Token uncertainty that shapes credit: entropy of the full next-token distribution,
    -logprob of the sampled token (the default of backend tinker, which knows no more), or
    p(1 - p)."""
    strategic_grams: Literal["default", "arithmetic"] | list[str] = "default"
    """Planning phrases: a named set, or your own list."""
    ratio_gate: float | None = Field(default=None, gt=0)
    """Largest |mean ratio - 1| allowed before the first update; None: 1e-4 in float32, 0.02 in
    bfloat16, whose rounding differs between decoding and scoring, 0.05 against a server that
    samples (backends openai and tinker)."""
    save_every: int = Field(default=20, ge=0)
    """Steps between checkpoints; 0: none."""
    replicate: int = Field(default=0, ge=0)
    """Another replicate draws other samples for the same seed; A/A checks need two of them."""
    log_tokens: bool = False
    """Also write token ids, log-probs and entropies of every completion."""
    token_log_every: int = Field(default=10, ge=0)
    """Steps between those whose tokens go to emergence/tokens.jsonl with uncertainty, planning mask
    and advantages, for the completion viewer; those of the last step always do. 0: none."""
    token_log_groups: int = Field(default=2, ge=1)
    """Groups of such a step, those of mixed rewards first."""
    policy: PolicySettings = Field(default_factory=PolicySettings)
    """Backend settings."""
    problems: ProblemsConfig = Field(default_factory=ProblemsConfig)
    """Where problems come from."""
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    """Held-out evaluation."""
    backpressure: BackPressureConfig = Field(default_factory=BackPressureConfig)
    """Concurrency chosen from measured throughput."""

    @model_validator(mode="after")
    def _settings_agree(self) -> TrainConfig:
        if self.loss.kind == "importance_sampling" and self.updates_per_batch > 1:
            raise ValueError(
                f"updates_per_batch = {self.updates_per_batch} with the importance_sampling loss "
                "has no bound on the ratio; use loss.kind = 'ppo', 'gspo' or 'cispo'"
            )
        if self.normalize == "std" and self.advantage_mode != "grpo":
            raise ValueError(
                f"normalize = 'std' with advantage_mode '{self.advantage_mode}': only grpo is "
                "divided by the standard deviation; drop one of them"
            )
        if self.backend in ("torch", "openai", "tinker") and self.model is None:
            raise ValueError(f"backend '{self.backend}' needs a model: a folder or a hub id")
        try:
            if self.backend == "tinker":
                check_method(self.loss, uncertainty_kind=self.uncertainty_kind)
            self.policy.check_backend(self.backend)
            check_loss(self.loss)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @model_validator(mode="after")
    def _rate_agrees(self) -> TrainConfig:
        if self.lr_warmup_steps >= self.max_steps:
            raise ValueError(
                f"lr_warmup_steps = {self.lr_warmup_steps} with max_steps = {self.max_steps}: the "
                "rate would never reach lr; use fewer warm-up steps"
            )
        if self.lr_min_ratio and self.lr_schedule == "constant":
            raise ValueError(
                f"lr_min_ratio = {self.lr_min_ratio:g} with lr_schedule 'constant', which does not "
                "fall; use linear or cosine, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _methods_agree(self) -> TrainConfig:
        """Refuse parts of different methods that would not do what they say beside each other."""
        if self.advantage_mode in OF_THE_BATCH and self.uninformative_groups == "resample":
            raise ValueError(
                f"uninformative_groups = 'resample' with advantage_mode '{self.advantage_mode}', "
                "whose baseline is the batch: every group teaches; use 'drop'"
            )
        if self.overlong_buffer_rate > 0 and self.advantage_mode == "maxrl":
            raise ValueError(
                f"overlong_buffer_rate = {self.overlong_buffer_rate:g} with advantage_mode "
                "'maxrl', which divides by a mean of rewards that must not be negative; use "
                "advantage_mode 'grpo', or overlong_buffer_rate = 0"
            )
        if self.loss.sampler_correction != "none" and self.top_p < 1:
            raise ValueError(
                f"loss.sampler_correction = '{self.loss.sampler_correction}' with top_p = "
                f"{self.top_p:g}: the sampler never draws what it cut off, and no weight corrects "
                "that; use top_p = 1, or loss.sampler_correction = 'none'"
            )
        if self.transform_mode == "entropy_mask" and self.uncertainty_kind != "entropy":
            raise ValueError(
                f"transform_mode = 'entropy_mask' with uncertainty_kind "
                f"'{self.uncertainty_kind}': it masks by the entropy of the full distribution; "
                "use uncertainty_kind = 'entropy'"
            )
        if self.gtpo_normalize != "advantage" and self.transform_mode != "gtpo_paper":
            raise ValueError(
                f"gtpo_normalize = '{self.gtpo_normalize}' with transform_mode "
                f"'{self.transform_mode}': only gtpo_paper has the choice; drop one of them"
            )
        if self.transform_mode == "gtpo_paper" and self.gtpo_beta > 1:
            raise ValueError(
                f"gtpo_beta = {self.gtpo_beta:g} with transform_mode 'gtpo_paper', whose two parts "
                "sum to 1; use a gtpo_beta of at most 1"
            )
        return self

    @property
    def gate_tolerance(self) -> float:
        """The ratio gate's tolerance in force, of scores against the sampler."""
        if self.ratio_gate is None and self.backend in REMOTE:
            return REMOTE_TOLERANCE
        return self.update_tolerance

    @property
    def update_tolerance(self) -> float:
        """The same of the update against the scores, which are both local."""
        if self.ratio_gate is not None:
            return self.ratio_gate
        return HALF_TOLERANCE if self.policy.dtype == "bfloat16" else LOCAL_TOLERANCE

    @property
    def label(self) -> str:
        """The condition label, e.g. `maxrl+gtpo_sepa` or `grpo+none+dapo`."""
        return condition_label(
            self.advantage_mode,
            self.transform_mode,
            hicra=self.hicra_after_sepa,
            objective=objective_of(
                kind=self.loss.kind,
                normaliser=self.loss.normaliser,
                uninformative_groups=self.uninformative_groups,
            ),
        )


BACKEND_DEFAULTS: dict[str, dict[str, Any]] = {
    "tiny": {
        "max_steps": 60,
        "batch_size": 16,
        "group_size": 8,
        "max_tokens": 64,
        "temperature": 1.0,
        "lr": 2e-4,
        "sepa_steps": 30,
        "sepa_delay_steps": 5,
        "strategic_grams": "arithmetic",
        "problems": {"source": "arithmetic"},
        "evaluation": {
            "every": 30,
            "problems": 512,
            "samples": 2,
            "start_band": [0.15, 0.25],
        },
    },
    "toy": {
        "max_steps": 20,
        "batch_size": 8,
        "group_size": 8,
        "max_tokens": 4,
        "temperature": 1.0,
        "lr": 100.0,
        "sepa_steps": 10,
        "sepa_delay_steps": 0,
        "strategic_grams": ["wait let me", "check", "so the answer is"],
        "problems": {"source": "toy"},
        "evaluation": {"problems": 8, "samples": 16, "greedy": False, "every": 10},
    },
    "torch": {},
    "openai": {},
    "tinker": {
        "model": "Qwen/Qwen3-4B-Instruct-2507",
        "uncertainty_kind": "surprisal",
        "policy": {"lora": {"rank": 64}, "betas": [0.9, 0.95], "grad_clip": 0.0},
        "problems": {"source": "math", "chat_template": True},
        "evaluation": {"every": 100, "greedy": False},
    },
}
"""Defaults laid under what the user passed. The tiny and toy models need other settings than a
real language model; on a Tinker server those hold that every such server honours. Every value ends
up in the run's resolved config."""


def with_backend_defaults(data: Mapping[str, Any]) -> dict[str, Any]:
    """Expand `algorithm` and lay the backend's defaults under the data the user passed.

    Raises:
        ConfigError: a setting that contradicts what `algorithm` stands for.
    """
    backend = str(data.get("backend", "tiny"))
    if backend in ("tiny", "toy") and data.get("model") is not None:
        raise ConfigError(
            f"model = {data['model']!r} with backend '{backend}', which has its own model; "
            "use backend = 'torch'"
        )
    return expanded(data, BACKEND_DEFAULTS.get(backend, {}))
