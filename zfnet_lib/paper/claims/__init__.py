"""The claims of the paper, each with a statistic, a threshold stated beforehand and the verdict that follows."""

from .evidence import VERDICTS, Finding, Number
from .registry import CLAIMS, Ledger, about, basis, figure, ledger, measurable, measure, report, table

__all__ = [
    "CLAIMS",
    "VERDICTS",
    "Finding",
    "Ledger",
    "Number",
    "about",
    "basis",
    "figure",
    "ledger",
    "measurable",
    "measure",
    "report",
    "table",
]
