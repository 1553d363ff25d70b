"""The claims of one page: what the paper says, what came out here, and the verdict, side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..records import Sentence
from .ledger import TESTS, Entry, Ledger, ledger


@dataclass(frozen=True)
class About:
    """The claims that one figure, table or section is about, for one profile.

    Attributes:
        entries: Their rows of the ledger.
    """

    entries: tuple[Entry, ...]

    @property
    def summary(self) -> Sentence:
        """How many claims have which verdict."""
        if not self.entries:
            return Sentence("The paper makes no claim here that is tested.")
        counts = Ledger("", self.entries).counts
        said = ", ".join(f"{verdict} {count}" for verdict, count in counts.items() if count)
        return Sentence(f"{len(self.entries)} {'claim' if len(self.entries) == 1 else 'claims'}: {said}.")

    def markdown(self) -> str:
        """Return a list: each claim with its verdict, the paper's numbers and ours."""
        return "\n".join([str(self.summary), "", *(line for entry in self.entries for line in _item(entry))])

    def _repr_markdown_(self) -> str:
        return self.markdown()


def about(page: str, profile: str) -> About:
    """Return the claims that a notebook is about.

    Args:
        page: Its name, such as `fig2`.
        profile: `smoke`, `tiny` or `paper`.

    Example:
        >>> print(about("browse", "tiny").summary)
        The paper makes no claim here that is tested.
    """
    names = [name for name, test in TESTS.items() if test.page == page]
    return About(ledger(profile, names).entries if names else ())


def _item(entry: Entry) -> Iterator[str]:
    claim, finding = entry.claim, entry.finding
    yield f"- **{finding.verdict}**: {_literal(claim.statement)}"
    agrees = f" Its own numbers are {entry.consistent} with the claim." if entry.printed else ""
    yield f"  - Paper: {_literal(claim.evidence)}{agrees}"
    if finding.numbers:
        yield f"  - Ours: {_literal(finding.shown)} (n = {finding.n})"
    if finding.note:
        yield f"  - {finding.note}"


def _literal(text: str) -> str:
    """Keep what Markdown would read as marks."""
    return re.sub(r"([*_<>|$\[\]])", r"\\\1", text)
