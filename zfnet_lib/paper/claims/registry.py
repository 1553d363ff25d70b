"""The registry of the paper's claims (`claims.toml`): judging them by records, measuring, and the ledger shown."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from importlib import import_module, resources
from math import isfinite
from textwrap import wrap
from typing import Any

from ...files import PROJECT, ZfnetError
from ...images import FigureError
from ...weights import weights_hash
from .. import records
from ..plots import BLUE, GREY, INK, NORMAL, ORANGE, PALE, SMALL, VERMILION, Figure
from ..records import Sentence, Stopwatch, Table, is_fresh
from ..setting import describe_pictures, profile_of, training_of
from .evidence import (
    FAILS,
    HOLDS,
    NOT_RUN,
    UNDECIDED,
    UNTESTABLE,
    VERDICTS,
    Finding,
    NotRun,
    Number,
    Stored,
    Subject,
    compared,
)

ARITHMETIC, PICTURES, DRAWINGS = "exact arithmetic", "real pictures", "drawings"
"""What a statistic rests on; `smoke` has drawings alone."""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, as its entry in `claims.toml` states it; the head of that file says how."""

    id: str
    section: str
    quote: str
    statement: str
    evidence: str
    statistic: str
    holds: str
    fails: str
    thresholds: Mapping[str, float]
    networks: Mapping[str, str]
    rows: Mapping[str, str]
    judge: Callable[..., Finding] | None = None
    numbers: Sequence[Mapping[str, Any]] = ()
    untestable: str = "not needed: the test is possible at reduced scale"
    note: str = ""
    place: str = ""
    page: str = ""
    measure: Callable[[Subject], Iterator[Number]] | None = None
    printed: Callable[..., tuple[bool, str]] | None = None
    record: str = ""
    command: str = "zfnet claims --profile {profile} --live {claim}"
    cost: str = "minutes"
    basis: str = PICTURES

    @property
    def verdicts(self) -> dict[str, str]:
        """By verdict, the sentence with the thresholds that give it."""
        sentences = {HOLDS: self.holds, FAILS: self.fails, UNTESTABLE: self.untestable}
        return {word: self._stated(sentence) for word, sentence in sentences.items()}

    def _stated(self, sentence: str, **others: float) -> str:
        """Put the thresholds into a sentence."""
        values = (self.thresholds | others).items()
        return sentence.format(**{name: re.sub(r"e([+-])0", r"e\1", f"{value:g}") for name, value in values})

    @property
    def first(self) -> str:
        """The first section that makes the claim."""
        return self.section.partition(",")[0]

    @property
    def agreement(self) -> tuple[str, str]:
        """Whether the paper's own numbers agree with the claim, in a word, and the arithmetic on them."""
        if not self.printed:
            return "", ""
        agrees, arithmetic = self.printed(**self.thresholds, **self.rows)
        return "consistent" if agrees else "inconsistent", arithmetic

    def stored(self, profile: str) -> Stored:
        """Return what the judge reads."""
        facts = {"profile": profile, "network": profile_of(profile).network, "claim": self.id}
        facts["data"] = training_of(profile, "zfnet").data
        path = f"claims/{self.id}.jsonl" if self.measure else self.record
        return Stored(profile, path.format(**facts), f"`{self.command.format(**facts)}`; {self.cost}")

    def finding(self, profile: str) -> Finding:
        """Judge the claim by what is stored for a profile."""
        stored = self.stored(profile)
        try:
            judge = self.judge or partial(compared, self.numbers)
            found = judge(stored, **self.thresholds, **self.networks)
        except NotRun as unrun:
            return Finding(NOT_RUN, {}, str(unrun))
        found = replace(found, note=f"{self._stated(self.note, side=stored.side)} {found.note}".strip())
        if not found.numbers:
            return found
        file, basis = stored.file, DRAWINGS if (profile, self.basis) == ("smoke", PICTURES) else self.basis
        record = str(file.relative_to(PROJECT) if file.is_relative_to(PROJECT) else file)
        return replace(found, basis=basis, record=record if stored.path and file.exists() else "")


def claim_of(name: str, entry: Mapping[str, Any]) -> Claim:
    """Return a claim of an entry of the registry, whose functions are named as `module.function`."""
    words = {key: " ".join(value.split()) if isinstance(value, str) else value for key, value in entry.items()}
    entry = {"thresholds": {}, "networks": {}, "rows": {}} | words
    for role in {"judge", "measure", "printed"} & entry.keys():
        module, function = entry[role].split(".")
        entry[role] = getattr(import_module(f".{module}", __package__), function)
    return Claim(name, **entry)


_ENTRIES = resources.files(__package__).joinpath("claims.toml").read_text(encoding="utf-8")

CLAIMS = {name: claim_of(name, entry) for name, entry in tomllib.loads(_ENTRIES).items()}
"""All claims by id, in the paper's order."""


@dataclass(frozen=True)
class Ledger:
    """All claims, or some, with what was found of each for one profile."""

    profile: str
    rows: tuple[tuple[Claim, Finding], ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict."""
        found = Counter(finding.verdict for _, finding in self.rows)
        return {verdict: found[verdict] for verdict in VERDICTS}

    @property
    def sections(self) -> list[str]:
        """The sections of the paper that make these claims first."""
        return sorted({claim.first for claim, _ in self.rows})

    def of(self, section: str) -> Ledger:
        """Return the claims that a section makes first."""
        return replace(self, rows=tuple(row for row in self.rows if row[0].first == section))

    @property
    def resting(self) -> int:
        """How many verdicts rest on a statistic of real pictures, or on exact arithmetic."""
        judged = (found for _, found in self.rows if found.verdict in (HOLDS, FAILS, UNDECIDED))
        return sum(found.basis in (PICTURES, ARITHMETIC) for found in judged)

    def values(self) -> dict[str, Any]:
        """Return the ledger as plain values that JSON can hold."""
        summary = {"profile": self.profile, "verdicts": self.counts, "resting": self.resting}
        return summary | {"claims": [_values(*row) for row in self.rows]}

    @property
    def summary(self) -> Sentence:
        """How many claims have which verdict, in a sentence."""
        if not self.rows:
            return Sentence("The paper makes no claim here that is tested.")
        said = ", ".join(f"{verdict} {count}" for verdict, count in self.counts.items() if count)
        return Sentence(f"{len(self.rows)} {'claim' if len(self.rows) == 1 else 'claims'}: {said}.")

    def markdown(self) -> str:
        """Return a list: each claim with its verdict, the paper's numbers and ours."""
        lines = [str(self.summary), ""]
        for claim, finding in self.rows:
            agrees = f" Its own numbers are {claim.agreement[0]} with the claim." if claim.printed else ""
            lines.append(f"- **{finding.verdict}**: {_literal(claim.statement)}")
            lines.append(f"  - Paper: {_literal(claim.evidence)}{agrees}")
            lines += [f"  - Ours: {_literal(finding.shown)} (n = {finding.n})"] if finding.numbers else []
            lines += [f"  - {finding.note}"] if finding.note else []
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        return self.markdown()


def ledger(profile: str, names: Sequence[str] = (), live: bool = False) -> Ledger:
    """Judge claims, all by default, by what is stored for a profile; `live` first measures their own records."""
    profile_of(profile)
    if live:
        deque(measure(profile, names), maxlen=0)
    return Ledger(profile, tuple((claim, claim.finding(profile)) for claim in _chosen(names)))


def about(page: str, profile: str) -> Ledger:
    """Return the claims that a notebook is about."""
    return Ledger(profile, tuple((each, each.finding(profile)) for each in CLAIMS.values() if each.page == page))


def measurable(names: Sequence[str] = ()) -> list[str]:
    """Return the claims that have a record of their own; of some names, all must have one."""
    found = _chosen(names)
    alien = [claim.id for claim in found if not claim.measure]
    if names and alien:
        raise ZfnetError(f"{', '.join(alien)} rests on no record of its own; `zfnet claims` says on what")
    return [claim.id for claim in found if claim.measure]


def measure(profile: str, names: Sequence[str] = ()) -> Iterator[tuple[str, float]]:
    """Compute the records of claims that have one of their own; yield each claim and the seconds that it took.

    A record that this very code made of these very pictures and weights is kept, in 0 seconds: a run that was
    stopped goes on where it was. Claims that need trainings which are not here are passed over, unless they are
    asked for by name.
    """
    at = Subject(profile)
    for name in measurable(names):
        watch, file = Stopwatch(), CLAIMS[name].stored(profile).file
        if is_fresh(file) and records.read(file)[0].parameters.get("basis") == _basis(at):
            yield name, 0.0
            continue
        try:
            found, data = list(CLAIMS[name].measure(at)), describe_pictures(at.dataset)
        except NotRun as unrun:
            if names:
                raise ZfnetError(f"{name} needs what is not here yet: {unrun}") from unrun
            continue  # the ledger says what it would take
        basis = _basis(at)
        records.store(file, [each.record(name, at.name, data, watch, at.seed, basis=basis) for each in found])
        yield name, watch.provenance().seconds


def _basis(at: Subject) -> str:
    """Return a hash of what claims are measured on beside the code: the pictures, and all weights at hand."""
    return hashlib.sha256(f"{at.dataset.fingerprint} {weights_hash()}".encode()).hexdigest()[:16]


def _chosen(names: Sequence[str]) -> list[Claim]:
    """Return claims by name, in the paper's order; all by default."""
    for name in names:
        if name not in CLAIMS:
            raise ZfnetError(f"there is no claim {name!r}; `zfnet claims --profile tiny` lists them")
    return [claim for claim in CLAIMS.values() if not names or claim.id in names]


def _values(claim: Claim, finding: Finding) -> dict[str, Any]:
    """Return a row as plain values that JSON can hold, which knows no NaN."""
    fields = ("value", "low", "high", "n", "unit")
    numbers = {
        name: {
            key: None if isinstance(value, float) and not isfinite(value) else value
            for key, value in zip(fields, number, strict=False)
        }
        for name, number in finding.numbers.items()
    }
    agrees, arithmetic = claim.agreement
    paper = {"consistent": agrees == "consistent", "arithmetic": arithmetic} if agrees else None
    said = {key: getattr(claim, key) for key in ("section", "statement", "statistic", "page")}
    found = {key: getattr(finding, key) for key in ("n", "verdict", "note", "basis", "record")}
    return {"claim": claim.id, **said, "numbers": numbers, "thresholds": claim.verdicts, **found, "paper": paper}


WIDTH = 110  # characters of a line

SECTIONS = {
    "2.1": "Visualization with a Deconvnet",
    "3": "Training Details",
    "4": "Convnet Visualization",
    "4.1": "Architecture Selection",
    "4.2": "Occlusion Sensitivity",
    "5.1": "ImageNet 2012",
    "5.2": "Feature Generalization",
    "5.3": "Feature Analysis",
    "6": "Discussion",
}
"""The paper's headings."""

COLOURS = {HOLDS: BLUE, FAILS: VERMILION, UNDECIDED: ORANGE, UNTESTABLE: GREY, NOT_RUN: PALE}
"""By verdict; the counts stand in the bars, so that no verdict is told by its colour alone."""


def report(found: Ledger) -> Iterator[str]:
    """Yield the ledger as lines of text, section by section, then how many claims have each verdict."""
    for section in found.sections:
        yield f"{section} {SECTIONS[section]}"
        for claim, finding in found.of(section).rows:
            yield from ("", f"  {claim.id}: {finding.verdict}")
            agrees, arithmetic = claim.agreement
            parts = {
                "claim": f"“{claim.quote}”",
                "ours": f"{finding.shown} (n = {finding.n})" if finding.numbers else "",
                "holds if": claim.verdicts[HOLDS],
                "paper": f"its own numbers are {agrees}: {arithmetic}" if agrees else "",
                "note": finding.note,
                "record": finding.record,
            }
            for title, text in parts.items():
                yield from wrap(text, WIDTH, initial_indent=f"    {title:9} ", subsequent_indent=" " * 14)
        yield ""
    yield " · ".join(f"{verdict} {count}" for verdict, count in found.counts.items())
    yield basis(found)


def basis(found: Ledger) -> Sentence:
    """Say how many verdicts rest on real pictures or exact arithmetic."""
    said = f"{found.resting} of {len(found.rows)} verdicts rest on real pictures or on exact arithmetic."
    machinery = "Narrow networks, trained for seconds on drawings: they test the machinery, not the paper."
    return Sentence(f"{said} {machinery}" if found.profile == "smoke" else said)


def table(found: Ledger, section: str) -> Table:
    """Return the claims that a section makes first, as a table for the book."""
    columns = {"claim": "The paper", "verdict": "Verdict", "ours": "Ours", "test": "Tested"}
    return Table(columns, [_cells(*row) for row in found.of(section).rows])


def _cells(claim: Claim, finding: Finding) -> dict[str, str]:
    where = f"section {claim.section}" + (f", {claim.place}" if claim.place else "")
    agrees, arithmetic = claim.agreement
    verdict = [f"**{finding.verdict}**"]
    verdict += [f"The paper's own numbers: {agrees} ({cell_text(arithmetic)})"] if agrees else []
    verdict += [f"[{claim.page}]({claim.page}.ipynb)"] if claim.page else []
    ours = [f"{name}: {number}" for name, number in finding.numbers.items()]
    ours += [f"n = {finding.n}"] if ours else []
    ours += [finding.note] if finding.note else []
    thresholds = [f"*{word.capitalize()}*: {cell_text(claim.verdicts[word])}." for word in (HOLDS, FAILS)]
    return {
        "claim": f"“{cell_text(claim.quote)}” ({where}; `{claim.id}`)",
        "verdict": "<br>".join(verdict),
        "ours": "<br>".join([*map(cell_text, ours), *([f"`{finding.record}`"] if finding.record else [])]),
        "test": "<br>".join([cell_text(claim.statistic), *thresholds]),
    }


def cell_text(text: str) -> str:
    """Return text as it has to stand in a cell of a Markdown table."""
    return re.sub(r"([|*])", r"\\\1", escape(text, quote=False))


def _literal(text: str) -> str:
    """Keep what Markdown would read as marks."""
    return re.sub(r"([*_<>|$\[\]])", r"\\\1", text)


def figure(found: Ledger) -> Figure:
    """Draw a bar a section, its length the number of claims, its parts their verdicts."""
    if not found.rows:
        raise FigureError("the ledger's figure takes the claims of at least one section")
    drawn = Figure(0.8 + 0.28 * len(found.sections))
    axes = drawn.subplots()
    for row, section in enumerate(found.sections):
        start = 0
        for verdict, count in found.of(section).counts.items():
            axes.barh(row, count, left=start, color=COLOURS[verdict], edgecolor="white", height=0.75)
            if count:
                colour = "white" if COLOURS[verdict] in (BLUE, GREY) else INK
                axes.text(start + count / 2, row, count, color=colour, ha="center", va="center", fontsize=SMALL)
            start += count
    for verdict, colour in COLOURS.items():
        axes.barh(0, 0, color=colour, label=verdict)
    axes.set_yticks(range(len(found.sections)), [f"section {each}" for each in found.sections], fontsize=NORMAL)
    axes.invert_yaxis()
    axes.set_xlabel("claims", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=SMALL, frameon=False, ncols=len(COLOURS), loc="lower left", bbox_to_anchor=(0, 1))
    drawn.tight_layout()
    return drawn
