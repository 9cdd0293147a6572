"""A Hugging Face model folder and a JSONL file of problems, by command line to a result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.lab import read_run
from tests.e2e.program import succeed

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")


def save_model(folder: Path, texts: list[str]) -> None:
    """Write a small random Llama with a byte-level BPE tokenizer trained on the texts."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        tokenizers.trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<pad>", "<eos>"],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def test_own_model_and_own_problems_train_and_resume(tmp_path: Path) -> None:
    texts = [
        f"How much is {a} plus {b}? Answer in \\boxed{{}}." for a in range(9) for b in range(9)
    ]
    save_model(tmp_path / "model", texts)
    rows = [{"question": text, "gold": f"#### {index % 17}"} for index, text in enumerate(texts)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "run.toml").write_text(
        """
backend = "torch"
model = "model"
algorithm = "full"
max_steps = 3
batch_size = 4
group_size = 4
max_tokens = 12
temperature = 1.0
save_every = 1
problems = { source = "jsonl", path = "sums.jsonl", prompt_field = "question", \
answer_field = "gold", answer_pattern = '####\\s*(.+)', grading = "numeric" }
evaluation = { problems = 4, greedy = false, every = 3 }
"""
    )
    succeed(tmp_path, "train", "--config", "run.toml", "--log-dir", "run", "--seed", "3")
    run = read_run(tmp_path / "run")
    assert run.status == "done", run.failure
    steps = run.rows("metrics.jsonl")
    assert [row["step"] for row in steps] == [0, 1, 2]
    for row in steps:
        assert row["total_count"] == 16
        assert row["sampler_ratio_mean"] == pytest.approx(1.0, abs=1e-3)
        assert row["exec_entropy_mean"] > 1.0  # a random model is nearly uniform over 300 ids
    problems = {row["problem_id"] for row in run.rows("evaluation_problems.jsonl")}
    trained = {row["problem_id"] for row in run.rows("emergence/generations.jsonl")}
    assert len(problems) == 4
    assert not problems & trained


def test_own_model_trains_on_a_copy_of_mathematics(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    subjects = ["Geometry", "Counting & Probability"]
    rows = [
        {
            "problem": f"Which fraction has numerator {n}?",
            "solution": f"$\\boxed{{\\frac{{{n}}}{{7}}}}$",
            "type": subjects[n % 2],
            "level": f"Level {1 + n % 5}",
        }
        for n in range(60)
    ]
    (tmp_path / "MATH.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_model(tmp_path / "model", [row["problem"] for row in rows])
    line = ["train", "--backend", "torch", "--model", "./model", "--log-dir", "run"]
    line += ["--problems.source", "math", "--problems.path", "MATH.jsonl", "--subjects"]
    line += ["geometry,counting_and_probability", "--max-steps", "1", "--batch-size", "2"]
    line += ["--group-size", "2", "--max-tokens", "4", "--no-evaluation.greedy"]
    succeed(tmp_path, *line, "--eval-problems", "4", "--set", "problems.held_out_fraction=0.3")
    run = read_run(tmp_path / "run")
    assert run.status == "done", run.failure
    rows = run.rows("evaluation_problems.jsonl")
    assert {row["subject"] for row in rows} <= {"geometry", "counting_and_probability"}
    assert {row["level"] for row in rows} <= set("12345")
    prompts = {row["prompt"] for row in run.rows("emergence/generations.jsonl")}
    assert all("final answer within \\boxed{}" in prompt for prompt in prompts)
    messages = [row["message"] for row in run.rows("events.jsonl")]
    assert any('"grading":"math"' in text and '"math-verify":"' in text for text in messages)
    assert any("60 different problems, sha256" in text for text in messages)
