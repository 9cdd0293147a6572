"""Every key a training run writes: its meaning, unit, direction and tracker name.

Pure declarations; the order here is the order of keys in a row.
"""

from __future__ import annotations

from cupel.lab.metrics import Metric

_TEXT = "text"

# One line a metric reads as the table it is.
# fmt: off

METRICS: tuple[Metric, ...] = (
    Metric(name="step", meaning="Training step, from 0; the row describes the batch sampled before this step's update.", unit="count"),
    Metric(name="condition", meaning="Label of the condition.", unit=_TEXT),
    Metric(name="seed", meaning="Seed of the run.", unit="count"),
    Metric(name="algorithm", meaning="Advantage, transform and, where it is a method of its own, loss, e.g. `maxrl+gtpo_sepa` or `grpo+none+dapo`.", unit=_TEXT),
    Metric(name="advantage_mode", meaning="Advantage of a completion within its group.", unit=_TEXT),
    Metric(name="transform_mode", meaning="Shaping of the advantage over tokens.", unit=_TEXT),
    Metric(name="uncertainty_kind", meaning="Which token uncertainty shaped credit and stands in the exec/plan statistics.", unit=_TEXT),
    Metric(name="status", meaning="`trained`, or `skipped` when no group was mixed and no update was made.", unit=_TEXT),
    Metric(name="correct_rate", meaning="Correct completions over all completions of the batch, ungradable ones included.", unit="rate", higher_is_better=True, tracker_name="train/rewards/correct_rate", limits=(0.0, 1.0)),
    Metric(name="running_correct_rate", meaning="Cumulative correct rate since step 0. For the eye only: never tested.", unit="rate", higher_is_better=True, tracker_name="train/rewards/running_correct_rate"),
    Metric(name="mean_reward", meaning="Mean reward of all completions of the batch.", unit="reward", higher_is_better=True, tracker_name="train/rewards/mean_reward"),
    Metric(name="correct_count", meaning="Completions graded correct.", unit="count"),
    Metric(name="incorrect_count", meaning="Completions graded incorrect.", unit="count"),
    Metric(name="ungradable_count", meaning="Completions without an answer the grader could read; rewarded 0 in training, left out of correct_rate's numerator and counted here.", unit="count", tracker_name="train/rewards/ungradable_count"),
    Metric(name="grader_failure_count", meaning="Ungradable completions on which the grader ran out of time or broke; too many stop the run.", unit="count", tracker_name="train/rewards/grader_failure_count"),
    Metric(name="total_count", meaning="Completions of the batch.", unit="count"),
    Metric(name="groups_all_right", meaning="Groups in which every completion had the same, positive reward.", unit="count", tracker_name="train/groups/all_right"),
    Metric(name="groups_all_wrong", meaning="Groups in which no completion had a reward.", unit="count", tracker_name="train/groups/all_wrong"),
    Metric(name="groups_mixed", meaning="Groups with different rewards: under a group's baseline the only ones that teach.", unit="count", tracker_name="train/groups/mixed"),
    Metric(name="sampling_rounds", meaning="Rounds of batch_size problems sampled in this step; 1 unless groups are resampled. Every count of this row is over all of them.", unit="count", tracker_name="train/groups/sampling_rounds"),
    Metric(name="groups_trained", meaning="Groups the update was computed on; fewer than batch_size where too few differed.", unit="count", tracker_name="train/groups/trained"),
    Metric(name="num_datums", meaning="Completions the update was computed on.", unit="count", tracker_name="train/num_datums"),
    Metric(name="trained_tokens", meaning="Tokens the update was computed on.", unit="tokens", tracker_name="train/trained_tokens"),
    Metric(name="learning_rate", meaning="Learning rate of this step by the schedule; a skipped step used none.", unit="step size", tracker_name="train/learning_rate"),
    Metric(name="loss", meaning="Value of the policy-gradient loss. It is no measure of progress and may be negative; missing when the step was skipped.", unit="loss", tracker_name="train/loss"),
    Metric(name="grad_norm", meaning="Norm of the gradient before clipping.", unit="norm", tracker_name="train/grad_norm"),
    Metric(name="ratio_mean", meaning="Mean of pi_new / pi_old over trained tokens, under gspo one ratio a completion; exactly 1 with one update a batch.", unit="ratio", tracker_name="train/policy/ratio_mean"),
    Metric(name="ratio_max", meaning="Largest pi_new / pi_old.", unit="ratio", tracker_name="train/policy/ratio_max"),
    Metric(name="clip_fraction", meaning="Share of trained tokens at which the clip was active: their gradient removed (ppo, gspo), or their weight capped (cispo).", unit="rate", tracker_name="train/clip_fraction"),
    Metric(name="reference_kl", meaning="KL(pi_new || pi_ref) to the policy training began with, k3 estimator, mean over trained tokens before the last update; missing without a KL penalty.", unit="nats", tracker_name="train/policy/reference_kl"),
    Metric(name="sampler_truncated_rate", meaning="Share of trained tokens whose sampler correction pi_old / q was cut to its cap; missing without the correction.", unit="rate", tracker_name="train/policy/sampler_truncated_rate"),
    Metric(name="entropy_threshold", meaning="Entropy a token needs for credit under entropy_mask; missing elsewhere.", unit="nats", tracker_name="train/entropy/threshold"),
    Metric(name="credited_token_rate", meaning="Share of trained tokens at or above entropy_threshold; missing elsewhere.", unit="rate", tracker_name="train/credited_token_rate"),
    Metric(name="overlong_penalty_mean", meaning="Mean overlong penalty of all completions, at most 0; missing without one.", unit="reward", tracker_name="train/rewards/overlong_penalty_mean"),
    Metric(name="sampler_kl", meaning="KL(q || pi_old) of the sampler against the scored policy, k3 estimator per token.", unit="nats", tracker_name="train/policy/sampler_kl"),
    Metric(name="sampler_gap_max", meaning="Largest difference between a token's log-probability (T = 1) as the sampler told it and as the trainer scored it.", unit="nats", tracker_name="train/policy/sampler_gap_max"),
    Metric(name="sampler_ratio_mean", meaning="Mean of pi_old / q over all tokens.", unit="ratio", tracker_name="train/policy/sampler_ratio_mean"),
    Metric(name="completion_length_mean", meaning="Mean tokens a completion.", unit="tokens", tracker_name="train/completion_length_mean"),
    Metric(name="completion_length_max", meaning="Longest completion.", unit="tokens"),
    Metric(name="max_token_hit_rate", meaning="Completions cut at max_tokens; a high rate says the limit is too low.", unit="rate", tracker_name="train/max_token_hit_rate"),
    Metric(name="distinct_in_group", meaning="Mean share of different completions within a group.", unit="rate", tracker_name="train/distinct_in_group"),
    Metric(name="exec_entropy_mean", meaning="Mean uncertainty of execution tokens, all completions, before shaping.", unit="nats", tracker_name="train/entropy/exec_mean"),
    Metric(name="exec_entropy_var", meaning="Population variance of the same.", unit="nats^2", tracker_name="train/entropy/exec_var"),
    Metric(name="plan_entropy_mean", meaning="Mean uncertainty of planning tokens, all completions, before shaping; missing when there are none.", unit="nats", tracker_name="train/entropy/plan_mean"),
    Metric(name="plan_entropy_var", meaning="Population variance of the same.", unit="nats^2", tracker_name="train/entropy/plan_var"),
    Metric(name="exec_token_count", meaning="Execution tokens behind exec_entropy_*.", unit="tokens"),
    Metric(name="plan_token_count", meaning="Planning tokens behind plan_entropy_*.", unit="tokens"),
    Metric(name="planning_token_rate", meaning="Planning tokens over all tokens. Under 0.005 SEPA and HICRA change nothing.", unit="rate", tracker_name="train/planning_token_rate"),
    Metric(name="post_exec_entropy_var", meaning="Variance of execution uncertainty after SEPA pooling: the mechanical effect.", unit="nats^2", tracker_name="train/entropy/post_exec_var"),
    Metric(name="sepa_lambda", meaning="SEPA pooling strength used in this step; 0 where the transform has no SEPA.", unit="rate", tracker_name="train/sepa_lambda"),
    Metric(name="sepa_gate_open", meaning="Whether SEPA's correctness gate was open in this step.", unit="flag", tracker_name="train/sepa_gate_open"),
    Metric(name="bp_regime", meaning="Back-pressure regime: `warmup`, `optimal`, `retrograde`, `memory_bound` or `compute_bound`; `off` when back pressure is not in use.", unit=_TEXT, reproducible=False, tracker_name="train/backpressure/regime"),
    Metric(name="bp_action", meaning="What back pressure does with the next step: `sweep`, `hold`, `throttle` or `increase`.", unit=_TEXT, reproducible=False, tracker_name="train/backpressure/action"),
    Metric(name="bp_warmup", meaning="Whether concurrencies are still being tried.", unit="flag", reproducible=False, tracker_name="train/backpressure/warmup"),
    Metric(name="bp_concurrency", meaning="Completions (or tokens of a pass) side by side in this step: p of the law.", unit="count", reproducible=False, tracker_name="train/backpressure/concurrency"),
    Metric(name="bp_throughput", meaning="Work a second of the stage that back pressure watches, whatever the rewards were.", unit="tokens/s", reproducible=False, tracker_name="train/backpressure/throughput"),
    Metric(name="bp_p_star", meaning="Concurrency of the highest throughput, fitted; missing where throughput never falls.", unit="count", reproducible=False, tracker_name="train/backpressure/p_star"),
    Metric(name="bp_sigma", meaning="Contention, fitted.", unit="ratio", reproducible=False, tracker_name="train/backpressure/sigma"),
    Metric(name="bp_kappa", meaning="Coherence, fitted.", unit="ratio", reproducible=False, tracker_name="train/backpressure/kappa"),
    Metric(name="bp_utilization", meaning="Fitted throughput over the highest at any concurrency.", unit="rate", reproducible=False, tracker_name="train/backpressure/utilization"),
    Metric(name="sampled_tokens", meaning="Tokens sampled in this step.", unit="tokens"),
    Metric(name="sample_time_s", meaning="Seconds spent sampling.", unit="s", reproducible=False, tracker_name="train/sample_time_s"),
    Metric(name="train_time_s", meaning="Seconds spent scoring and updating.", unit="s", reproducible=False, tracker_name="train/train_time_s"),
    Metric(name="step_time_s", meaning="Seconds of the whole step, evaluation excluded.", unit="s", reproducible=False, tracker_name="train/step_time_s"),
    Metric(name="tokens_per_second", meaning="Sampled tokens over step_time_s.", unit="tokens/s", reproducible=False, tracker_name="train/tokens_per_second"),
)
"""Keys of metrics.jsonl."""

EVALUATIONS: tuple[Metric, ...] = (
    Metric(name="step", meaning="Updates done before this evaluation.", unit="count"),
    Metric(name="condition", meaning="Label of the condition.", unit=_TEXT),
    Metric(name="seed", meaning="Seed of the run.", unit="count"),
    Metric(name="accuracy", meaning="Correct over all sampled completions of the held-out problems.", unit="rate", higher_is_better=True, tracker_name="eval/accuracy", limits=(0.0, 1.0)),
    Metric(name="greedy_accuracy", meaning="The same with greedy decoding; missing when not measured.", unit="rate", higher_is_better=True, tracker_name="eval/greedy_accuracy"),
    Metric(name="pass@k", meaning="Chance that one of k completions of a problem is correct, without bias from all samples (arXiv:2107.03374); one key for every k of `evaluation.pass_at`, when samples > 1.", unit="rate", higher_is_better=True, tracker_name="eval/pass@k", limits=(0.0, 1.0)),
    Metric(name="problems", meaning="Held-out problems, the same in every run.", unit="count"),
    Metric(name="samples", meaning="Completions a problem.", unit="count"),
    Metric(name="correct_count", meaning="Completions graded correct.", unit="count"),
    Metric(name="incorrect_count", meaning="Completions graded incorrect.", unit="count"),
    Metric(name="ungradable_count", meaning="Completions without a readable answer.", unit="count"),
    Metric(name="grader_failure_count", meaning="Those of them on which the grader ran out of time or broke.", unit="count"),
    Metric(name="completion_length_mean", meaning="Mean tokens a completion.", unit="tokens", tracker_name="eval/completion_length_mean"),
    Metric(name="max_token_hit_rate", meaning="Completions cut at max_tokens.", unit="rate", tracker_name="eval/max_token_hit_rate"),
    Metric(name="eval_time_s", meaning="Seconds of this evaluation.", unit="s", reproducible=False),
)
"""Keys of evaluations.jsonl."""

EVALUATED: tuple[Metric, ...] = (
    *EVALUATIONS,
    Metric(name="weights_sha256", meaning="Hash of the evaluated weights.", unit=_TEXT),
)
"""Keys of evaluations.jsonl of `rlvr.evaluate`: one row, whose step is the number of updates that the weights had."""

PARTS: tuple[Metric, ...] = (
    Metric(name="step", meaning="Part of the evaluation, from 0.", unit="count"),
    Metric(name="condition", meaning="Label of the condition.", unit=_TEXT),
    Metric(name="seed", meaning="Seed of the samples.", unit="count"),
    Metric(name="decoding", meaning="`greedy`, or `sampled`.", unit=_TEXT),
    Metric(name="problems", meaning="Problems of this part.", unit="count"),
    Metric(name="completions", meaning="Completions of this part.", unit="count"),
    Metric(name="correct", meaning="Completions graded correct.", unit="count"),
    Metric(name="incorrect", meaning="Completions graded incorrect.", unit="count"),
    Metric(name="ungradable_count", meaning="Completions without a readable answer.", unit="count"),
    Metric(name="grader_failure_count", meaning="Those of them on which the grader ran out of time or broke.", unit="count"),
    Metric(name="tokens", meaning="Tokens sampled.", unit="tokens"),
    Metric(name="finished", meaning="Completions that ended by themselves, before max_tokens.", unit="count"),
    Metric(name="part_time_s", meaning="Seconds of this part.", unit="s", reproducible=False),
)
"""Keys of metrics.jsonl of `rlvr.evaluate`: one row for what is decoded side by side."""
