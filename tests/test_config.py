"""Strictness, overrides and the canonical form of configs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from cupel.config import (
    Config,
    apply_overrides,
    canonical_json,
    fingerprint,
    load_toml,
    merge,
    nearest,
    parse_value,
    to_dict,
    validate,
)
from cupel.errors import ConfigError


class Inner(Config):
    rate: float = 0.5
    """A rate."""
    names: list[str] = Field(default_factory=list)


class Outer(Config):
    steps: int = 10
    """How many steps."""
    inner: Inner = Field(default_factory=Inner)
    many: list[Inner] = Field(default_factory=list)
    maybe: float | None = None


def test_unknown_key_names_the_nearest_match() -> None:
    with pytest.raises(ConfigError, match=r"study\.toml: unknown key 'step'; did you mean 'steps'"):
        validate(Outer, {"step": 3}, where="study.toml")


def test_unknown_nested_key_is_looked_up_where_it_stands() -> None:
    with pytest.raises(ConfigError, match=r"'inner\.rat'; did you mean 'rate'"):
        validate(Outer, {"inner": {"rat": 1.0}}, where="x")
    with pytest.raises(ConfigError, match=r"'many\.0\.nams'; did you mean 'names'"):
        validate(Outer, {"many": [{"nams": []}]}, where="x")


def test_unknown_key_far_from_everything_lists_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="allowed: inner, many, maybe, steps"):
        validate(Outer, {"zzz": 1}, where="x")


@pytest.mark.parametrize("value", ["10", 1.5, True, None])
def test_types_are_strict(value: object) -> None:
    with pytest.raises(ConfigError, match="steps"):
        validate(Outer, {"steps": value}, where="x")


def test_a_whole_number_is_a_float_too() -> None:
    assert validate(Outer, {"maybe": 1}, where="x").maybe == 1.0


def test_nan_is_refused() -> None:
    with pytest.raises(ConfigError, match="finite"):
        validate(Outer, {"maybe": float("nan")}, where="x")
    with pytest.raises(ConfigError, match="finite"):
        parse_value("nan")


def test_field_docstring_is_the_description() -> None:
    assert Outer.model_fields["steps"].description == "How many steps."


@given(
    st.builds(
        Outer,
        steps=st.integers(0, 10**9),
        inner=st.builds(
            Inner,
            rate=st.floats(allow_nan=False, allow_infinity=False),
            names=st.lists(st.text()),
        ),
        maybe=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_config_survives_json_without_loss(config: Outer) -> None:
    again = validate(Outer, json.loads(canonical_json(config)), where="x")
    assert again == config
    assert fingerprint(again) == fingerprint(config)


def test_canonical_json_does_not_depend_on_key_order() -> None:
    assert (
        canonical_json({"b": 1, "a": [2]})
        == canonical_json({"a": [2], "b": 1})
        == '{"a":[2],"b":1}'
    )


def test_overrides_parse_toml_values_and_leave_the_input_alone() -> None:
    data = {"inner": {"rate": 0.1}}
    result = apply_overrides(data, ["inner.rate=2e-4", "inner.names=['a']", "word=plain text"])
    assert result == {"inner": {"rate": 2e-4, "names": ["a"]}, "word": "plain text"}
    assert data == {"inner": {"rate": 0.1}}


@pytest.mark.parametrize("override", ["novalue", "=3"])
def test_malformed_override_is_one_clear_line(override: str) -> None:
    with pytest.raises(ConfigError, match=r"expected key\.path=value"):
        apply_overrides({}, [override])


def test_override_through_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="'steps' is a value, not a table"):
        apply_overrides({"steps": 3}, ["steps.x=1"])


def test_merge_lays_tables_over_tables() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 1}
    assert merge(base, {"a": {"y": 3}, "c": [1]}) == {"a": {"x": 1, "y": 3}, "b": 1, "c": [1]}
    assert base == {"a": {"x": 1, "y": 2}, "b": 1}


def test_to_dict_holds_every_field() -> None:
    assert set(to_dict(Outer())) == {"steps", "inner", "many", "maybe"}


def test_load_toml_names_the_file(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: no such file"):
        load_toml(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML.*line 1"):
        load_toml(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_toml(tmp_path)


def test_nearest_is_none_when_nothing_is_close() -> None:
    assert nearest("sepa_stepz", ["sepa_steps", "lr"]) == "sepa_steps"
    assert nearest("qqq", ["sepa_steps", "lr"]) is None
