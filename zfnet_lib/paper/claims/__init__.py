"""The claims of the paper, each with a statistic, a threshold stated beforehand and the verdict that follows."""

from .finding import VERDICTS, Finding, Number
from .ledger import TESTS, Entry, Ledger, ledger, measurable, measure
from .pages import About, about
from .showing import basis, report, table

__all__ = [
    "TESTS",
    "VERDICTS",
    "About",
    "Entry",
    "Finding",
    "Ledger",
    "Number",
    "about",
    "basis",
    "ledger",
    "measurable",
    "measure",
    "report",
    "table",
]
