"""Finished and running studies as pages, figures and tables; reads study folders only."""

from __future__ import annotations

from cupel.report.figures import write_figures
from cupel.report.page import write_report

__all__ = ["write_figures", "write_report"]
