"""Tables as LaTeX: booktabs, escaped, with the hash of what they were made from in a comment.

Pure. Knows LaTeX's special characters and column alignment; refuses to know where a table came
from, so the caller says what its source is.
"""

from __future__ import annotations

from cupel.report.formats import MISSING, THIN
from cupel.report.markdown import shown_rows
from cupel.report.tables import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\n": " ",
    "\r": " ",
    THIN: r"\,",
    "\u00a0": "~",
    MISSING: "--",
    "\N{MINUS SIGN}": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "…": r"\ldots{}",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
}
_TRANSLATION = str.maketrans(_SPECIAL)


def escape(text: str) -> str:
    r"""Return text that LaTeX sets as it reads.

    >>> escape("maxrl+gtpo_sepa: 43.1 %")
    'maxrl+gtpo\\_sepa: 43.1 \\%'
    """
    return text.translate(_TRANSLATION)


def latex_table(
    table: Table, *, source_sha256: str, label: str | None = None, fitted: bool = False
) -> str:
    """Return the table as a LaTeX table environment for the booktabs package.

    Args:
        source_sha256: hash of the data behind the table, kept in a comment at its top.
        label: what `\\ref` calls the table.
        fitted: shrink it to the line where it is wider; needs the graphicx package.
    """
    heads = [escape(column.name) for column in table.columns]
    align = "".join("l" if column.unit == "text" else "r" for column in table.columns)
    body = [[escape(cell) for cell in row] for row in shown_rows(table)]
    fit = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"
    lines = [
        f"% {_comment(table.title)}, made by Cupel; needs \\usepackage{{booktabs}}",
        f"% source sha256: {source_sha256}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{escape(table.title)}}}",
        *([f"  \\label{{{label}}}"] if label is not None else []),
        *([f"  {fit}"] if fitted else []),
        f"  \\begin{{tabular}}{{{align}}}",
        "    \\toprule",
        f"    {' & '.join(heads)} \\\\",
        "    \\midrule",
        *(f"    {' & '.join(row)} \\\\" for row in body),
        "    \\bottomrule",
        "  \\end{tabular}" + ("}" if fitted else ""),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """Return text on one line: a line break would end the comment."""
    return " ".join(text.split())
