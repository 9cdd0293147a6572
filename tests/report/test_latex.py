"""LaTeX tables: booktabs, every special character escaped, the source named in a comment."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from cupel.report.latex import escape, latex_table
from cupel.report.tables import Column, Estimate, Table

TABLE = Table(
    title="Runs of a_b\nand 50 % more",
    columns=(Column(name="condition"), Column(name="correct_rate", unit="rate")),
    rows=(
        ("maxrl+gtpo_sepa & co", Estimate(mean=0.431, low=0.4, high=0.46, n=8)),
        ("50 % {off} #1 ~ ^ \\ $", None),
    ),
)


def test_a_table_is_booktabs_with_its_source() -> None:
    text = latex_table(TABLE, source_sha256="ab" * 32, label="tab:runs")
    lines = text.splitlines()
    assert lines[0].startswith("% Runs of a_b and 50 % more")
    assert lines[1] == f"% source sha256: {'ab' * 32}"
    assert "\\label{tab:runs}" in text
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 1
    assert "\\begin{tabular}{lr}" in text
    assert r"maxrl+gtpo\_sepa \& co & 43.1\,\% [40.0\,\%, 46.0\,\%] (n = 8) \\" in text
    assert text.count(" & ") == 3
    assert (
        r"50 \% \{off\} \#1 \textasciitilde{} \textasciicircum{} \textbackslash{} \$ & -- \\"
        in text
    )


@given(st.text(max_size=40))
def test_nothing_special_is_left(text: str) -> None:
    bare = re.sub(r"\\text[a-z]+\{\}|\\ldots\{\}|\$\\?[a-z-]+\$|\\[{}$&#_%,]", "", escape(text))
    unicode_space = bare.replace("~", "") if "\u00a0" in text else bare
    assert not set(unicode_space) & set("\\{}$&#_%~^<>\n\r")
