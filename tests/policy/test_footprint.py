"""How large a model fits: by hand."""

from __future__ import annotations

import pytest

from cupel.policy.footprint import bytes_per_parameter, largest_model


def test_bytes_of_a_parameter_are_those_of_the_optimizer() -> None:
    """float32: weight, gradient, two moments; bfloat16: the same beside a 2-byte copy."""
    assert bytes_per_parameter("full", "float32") == 4 * 4
    assert bytes_per_parameter("full", "bfloat16") == 2 + 4 * 4
    assert bytes_per_parameter("lora", "float32") == pytest.approx(4 + 0.16)
    assert bytes_per_parameter("lora", "bfloat16") == pytest.approx(2 + 0.18)
    assert bytes_per_parameter("sampling", "bfloat16") == 2


def test_a_gpu_of_24_gb_holds_what_people_run_on_it() -> None:
    assert largest_model(24e9, "full", "bfloat16") == pytest.approx(1.07e9, rel=0.01)
    assert largest_model(24e9, "lora", "bfloat16") == pytest.approx(8.8e9, rel=0.01)
    assert largest_model(0, "full", "float32") == 0
