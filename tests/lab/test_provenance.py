"""Provenance never holds a secret."""

from __future__ import annotations

import os

import pytest

from cupel.lab.provenance import capture, redact


@pytest.mark.parametrize(
    "argv",
    [
        ["--api-key", "s3cr3t-value"],
        ["--api_key=s3cr3t-value"],
        ["--hub-token", "s3cr3t-value"],
        ["TINKER_API_KEY=s3cr3t-value"],
        ["--password", "s3cr3t-value"],
        ["--base-url", "https://user:s3cr3t-value@example.org/x"],
        ["tml-s3cr3t-value"],
        ["--set", "policy.api_key=s3cr3t-value"],
        ["--header=Authorization: sk-s3cr3t-value"],
    ],
)
def test_what_looks_like_a_secret_is_hidden(argv: list[str]) -> None:
    assert "s3cr3t" not in " ".join(redact(argv))
    assert "[hidden]" in " ".join(redact(argv))


def test_what_is_no_secret_is_kept() -> None:
    argv = [
        "cupel",
        "train",
        "--max-tokens",
        "64",
        "--max_tokens=64",
        "--lr",
        "4e-5",
        "--tokenizer",
    ]
    assert redact(argv) == argv


def test_only_listed_variables_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "s3cr3t-value")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recorded = capture(["x"])
    assert recorded["environment"]["OMP_NUM_THREADS"] == "1"
    assert "s3cr3t" not in str(recorded)
    assert recorded["working_folder"] == os.getcwd()
