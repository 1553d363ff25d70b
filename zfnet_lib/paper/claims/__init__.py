"""The claims of the paper, each with a statistic, a threshold and the verdict that follows."""

from .registry import CLAIMS, about, basis, figure, ledger, measurable, measure, report

__all__ = ["CLAIMS", "about", "basis", "figure", "ledger", "measurable", "measure", "report"]
