"""The ledger: every claim of the paper with its statistic, its number and the verdict that follows."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from ...files import PROJECT, ZfnetError
from ...weights import weights_hash
from .. import numbers, records
from ..records import Stopwatch, is_fresh
from ..setting import describe_pictures, profile_of, training_of
from . import (
    backprop,
    coherence,
    decoding,
    depth,
    development,
    distinct,
    features,
    frequencies,
    layers,
    method,
    occluded,
    probing,
    recipe,
    transfer,
)
from .finding import FAILS, HOLDS, NOT_RUN, UNDECIDED, VERDICTS, Finding, Number
from .printed import PRINTED, Printed
from .stored import Measured, NotRun, Stored
from .subject import Subject

ARITHMETIC, PICTURES, DRAWINGS = "exact arithmetic", "real pictures", "drawings"
"""What a statistic rests on; `smoke` has drawings alone."""

EVOLUTION = {"path": "evolution/numbers.jsonl", "command": "zfnet run fig4 --profile {profile} --live"}
GROUPS = {"path": "groups/{network}--{data}.jsonl", "command": "zfnet run fig2 --profile {profile} --live"}
ERRORS = {"path": "errors", "command": "zfnet train --table 2 --data {data} --recipe {profile}"}


@dataclass(frozen=True)
class Test:
    """How one claim is tested.

    Attributes:
        judge: Reads what is stored and gives numbers and verdict.
        page: The notebook that shows the figure or table.
        measure: Computes the claim's own record; None where another part's record, or arithmetic, decides.
        path: Another part's record, below the profile's results.
        command: What writes that record.
        cost: How long that takes in `tiny`, on two cores.
        basis: What the statistic rests on.
    """

    judge: Callable[[Stored], Finding]
    page: str = ""
    measure: Callable[[Subject], Iterator[Measured]] | None = None
    path: str = ""
    command: str = ""
    cost: str = ""
    basis: str = PICTURES

    def stored(self, profile: str, claim: str) -> Stored:
        """Return what the judge reads."""
        training = training_of(profile, "zfnet")
        facts = {"profile": profile, "network": profile_of(profile).network, "data": training.data}
        own = f"claims/{claim}.jsonl" if self.measure else self.path
        command = self.command or f"zfnet claims --profile {profile} --live {claim}"
        return Stored(profile, own.format(**facts), command.format(**facts), self.cost or "minutes")


TESTS: dict[str, Test] = {
    "unpooling-switches-preserve-structure": Test(method.switches_preserve, "fig1", method.unpooling),
    "rectification-gives-valid-reconstructions": Test(method.rectification_valid, "fig1", method.rectifying),
    "transposed-filters-are-flips": Test(backprop.transposed_flips, "fig1", basis=ARITHMETIC),
    "projection-resembles-input-piece": Test(features.resembles_its_piece, "fig2", cost="half an hour", **GROUPS),
    "projection-weighted-by-contribution": Test(method.weighted_by_contribution, "fig6", method.contribution),
    "projection-emphasises-discriminative-parts": Test(method.discriminative_parts, "fig2", method.discriminative),
    "projection-similar-to-backprop": Test(backprop.similar_to_backpropagation, "sanity", backprop.backpropagating),
    "few-filters-dominate-without-clipping": Test(recipe.few_filters_dominate, "fig5", path="trainings"),
    "scale-clipping-is-crucial": Test(recipe.clipping_is_crucial, "training", path="errors"),
    "input-range-128": Test(recipe.input_range, "training", recipe.pixel_values),
    "crops-and-flips-help": Test(recipe.crops_and_flips, "training"),
    "seventy-epochs-twelve-days": Test(recipe.seventy_epochs, "training", path="trainings", basis=ARITHMETIC),
    "top9-strong-grouping": Test(features.strong_grouping, "fig2", cost="half an hour", **GROUPS),
    "patches-vary-more-than-projections": Test(features.patches_vary_more, "fig2", cost="half an hour", **GROUPS),
    "background-feature-grass": Test(layers.background_feature, "fig2", layers.background),
    "features-hierarchical": Test(layers.hierarchical, "fig2", layers.growing),
    "layers-2-3-edges-then-textures": Test(probing.edges_then_textures, "fig2", probing.probed),
    "layer-4-more-class-specific": Test(features.class_specific, "fig2", cost="half an hour", **GROUPS),
    "layer-5-objects-with-pose-variation": Test(layers.objects_with_pose, "fig2", layers.objects),
    "invariance-grows-with-layer": Test(probing.invariance_grows, "invariance", probing.moved),
    "lower-layers-converge-early": Test(development.converge_early, "fig4", cost="2.3 h", **EVOLUTION),
    "upper-layers-develop-late": Test(development.develop_late, "fig4", cost="2.3 h", **EVOLUTION),
    "jumps-are-image-changes": Test(development.jumps, "fig4", cost="2.3 h", **EVOLUTION),
    "train-until-fully-converged": Test(development.until_converged, "fig4", cost="2.3 h", **EVOLUTION),
    "krizhevsky-layer-1-few-mid-frequencies": Test(frequencies.few_mid_frequencies, "fig5", frequencies.preferred),
    "stride-4-causes-layer-2-aliasing": Test(frequencies.stride_aliases, "fig5", frequencies.sampled),
    "smaller-stem-retains-information": Test(decoding.retains_information, "fig5", decoding.information),
    "smaller-stem-lower-error": Test(depth.smaller_stem, "table1", **ERRORS),
    "smaller-stem-fewer-dead-features": Test(distinct.fewer_dead, "fig5", distinct.faulty),
    "smaller-stem-more-distinctive-features": Test(distinct.more_distinctive, "fig5", distinct.distinctive),
    "visual-diagnosis-predicts-accuracy": Test(depth.diagnosis, "fig5"),
    "object-occlusion-lowers-class-probability": Test(occluded.object_matters, "fig6", occluded.object_covered),
    "model-uses-local-structure-not-only-context": Test(occluded.local_structure, "fig6", occluded.object_alone),
    "occluding-strongest-feature-lowers-activity": Test(
        occluded.activity_falls, "fig6", occluded.activity_where_shown
    ),
    "projection-corresponds-to-stimulus": Test(occluded.corresponds, "fig6", occluded.corresponding),
    "occlusion-flips-label-to-other-object": Test(occluded.flips_to_other, "fig6", occluded.two_objects),
    "class-evidence-differs-from-strongest-feature": Test(
        occluded.evidence_elsewhere, "fig6", occluded.evidence_apart
    ),
    "replication-within-0-1": Test(depth.within_one_tenth, "table1", basis=ARITHMETIC),
    "ours-beats-krizhevsky-single": Test(depth.single_model, "table1", **ERRORS),
    "ensemble-gain": Test(depth.ensemble, "table1", path="errors/ensembles.jsonl"),
    "fc-removal-gives-slight-increase": Test(depth.without_6_7, "table2", **ERRORS),
    "fc-layers-hold-most-parameters": Test(depth.share_of_dense, "fig3", basis=ARITHMETIC),
    "middle-conv-removal-relatively-small": Test(depth.without_3_4, "table2", **ERRORS),
    "removing-both-is-dramatic": Test(depth.without_both, "table2", **ERRORS),
    "depth-not-any-single-section": Test(depth.depth, "table2", **ERRORS),
    "fc-width-makes-little-difference": Test(depth.width_of_dense, "table2", **ERRORS),
    "larger-middle-layers-help": Test(depth.larger_middle, "table2", **ERRORS),
    "enlarging-both-over-fits": Test(depth.both_enlarged, "table2", **ERRORS),
    "pretrained-beats-best-caltech-101": Test(transfer.best_caltech_101, "table3", path="transfer"),
    "pretrained-beats-scratch": Test(transfer.beats_scratch, "table3", path="transfer"),
    "pretrained-beats-bo-caltech-256": Test(transfer.best_caltech_256, "table4", path="transfer"),
    "six-images-beat-sixty": Test(transfer.few_beat_many, "fig7", path="transfer"),
    "softmax-trains-quickly": Test(transfer.trains_quickly, "table3", path="transfer"),
    "representation-matters-more-than-classifier": Test(transfer.features_matter_more, "table6", path="transfer"),
    "pascal-transfers-less-well": Test(transfer.pascal_less_well, "table5", path="transfer", basis=ARITHMETIC),
    "multi-label-loss-would-help": Test(transfer.several_losses, "table5", path="transfer"),
    "caltech-imagenet-overlap": Test(transfer.overlap, "weights", path="overlap"),
    "features-more-discriminative-with-layer": Test(transfer.more_with_layer, "table6", path="transfer"),
    "all-layers-give-best-results": Test(transfer.all_layers_best, "table6", path="transfer"),
    "features-far-from-random": Test(coherence.far_from_random, "fig2", coherence.coherent),
}
"""Every claim's test: the function that judges it, the page that shows it, and what its record is."""


@dataclass(frozen=True)
class Entry:
    """One row of the ledger.

    Attributes:
        claim: The paper's claim, with the thresholds stated beforehand.
        finding: Numbers and verdict.
        printed: What the paper's own numbers say; None where it prints none.
        record: Where our numbers lie, below the project; empty for arithmetic.
        page: The notebook that shows the figure or table; empty where there is none.
        basis: What the numbers rest on; empty where there are none.
    """

    claim: numbers.Claim
    finding: Finding
    printed: Printed | None
    record: str
    page: str
    basis: str

    @property
    def section(self) -> str:
        """The first section that makes the claim."""
        return self.claim.section.partition(",")[0]

    @property
    def consistent(self) -> str:
        """Whether the paper's own numbers agree with the claim, in a word."""
        return "" if self.printed is None else "consistent" if self.printed.consistent else "inconsistent"

    def values(self) -> dict[str, Any]:
        """Return the row as plain values that JSON can hold."""
        return {
            "claim": self.claim.id,
            "section": self.claim.section,
            "statement": self.claim.statement,
            "statistic": self.claim.statistic,
            "numbers": {name: _plain(number) for name, number in self.finding.numbers.items()},
            "n": self.finding.n,
            "thresholds": self.claim.verdicts,
            "verdict": self.finding.verdict,
            "note": self.finding.note,
            "paper": self.printed._asdict() if self.printed else None,
            "basis": self.basis,
            "record": self.record,
            "page": self.page,
        }


@dataclass(frozen=True)
class Ledger:
    """All claims, or some, for one profile."""

    profile: str
    entries: tuple[Entry, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many claims have each verdict."""
        return _counted(self.entries)

    @property
    def by_section(self) -> dict[str, dict[str, int]]:
        """The same, by the section where each claim is made first."""
        return {section: _counted(self.of(section)) for section in self.sections}

    @property
    def sections(self) -> list[str]:
        """The sections of the paper that make these claims."""
        return sorted({entry.section for entry in self.entries})

    def of(self, section: str) -> list[Entry]:
        """Return the claims that a section makes first."""
        return [entry for entry in self.entries if entry.section == section]

    @property
    def resting(self) -> int:
        """How many verdicts rest on a statistic of real pictures, or on exact arithmetic."""
        judged = (entry for entry in self.entries if entry.finding.verdict in (HOLDS, FAILS, UNDECIDED))
        return sum(entry.basis in (PICTURES, ARITHMETIC) for entry in judged)

    def values(self) -> dict[str, Any]:
        """Return the ledger as plain values that JSON can hold."""
        summary = {"profile": self.profile, "verdicts": self.counts, "resting": self.resting}
        return summary | {"claims": [entry.values() for entry in self.entries]}


def ledger(profile: str, names: Sequence[str] = (), live: bool = False) -> Ledger:
    """Judge the paper's claims by what is stored for a profile.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        names: Of claims; all by default.
        live: First compute the records of those that have one of their own.

    Raises:
        ZfnetError: No such profile or claim, or a damaged record.
    """
    profile_of(profile)
    if live:
        deque(measure(profile, names), maxlen=0)
    return Ledger(profile, tuple(_entry(profile, claim) for claim in chosen(names)))


def chosen(names: Sequence[str]) -> list[numbers.Claim]:
    """Return claims by name, in the paper's order; all by default.

    Raises:
        ZfnetError: No such claim.
    """
    known = {claim.id: claim for claim in numbers.claims()}
    for name in names:
        if name not in known:
            raise ZfnetError(f"there is no claim {name!r}; `zfnet claims --profile tiny` lists them")
    return [claim for claim in known.values() if not names or claim.id in names]


def measurable(names: Sequence[str] = ()) -> list[str]:
    """Return the claims that have a record of their own, all or those of some names.

    Raises:
        ZfnetError: No such claim, or one that rests on other records.
    """
    found = [claim.id for claim in chosen(names)]
    alien = [name for name in found if not TESTS[name].measure]
    if names and alien:
        raise ZfnetError(f"{', '.join(alien)} rests on no record of its own; `zfnet claims` says on what")
    return [name for name in found if name not in alien]


def measure(profile: str, names: Sequence[str] = ()) -> Iterator[tuple[str, float]]:
    """Compute the records of claims that have one of their own, one after the other.

    A record that this very code made of these very pictures and weights is kept: a run that was stopped goes on
    where it was. Claims that need trainings which are not here are passed over, unless they are asked for by name.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        names: Of claims; all that have such a record by default.

    Yields:
        Each claim, and the seconds that it took; 0 where its record was kept.
    """
    at = Subject(profile)
    for name in measurable(names):
        watch, file = Stopwatch(), TESTS[name].stored(profile, name).file
        if is_fresh(file) and records.read(file)[0].parameters.get("basis") == _basis(at):
            yield name, 0.0
            continue
        try:
            found, data = list(TESTS[name].measure(at)), describe_pictures(at.dataset)
        except NotRun as unrun:
            if names:
                raise ZfnetError(f"{name} needs what is not here yet: {unrun}") from unrun
            continue  # the ledger says what it would take
        found = [each.record(f"claim {name}", at.name, data, watch, at.seed) for each in found]
        basis = {"basis": _basis(at)}
        records.store(file, [replace(record, parameters=record.parameters | basis) for record in found])
        yield name, watch.provenance().seconds


def _basis(at: Subject) -> str:
    """Return a hash of what claims are measured on beside the code: the pictures, and all weights at hand."""
    return hashlib.sha256(f"{at.dataset.fingerprint} {weights_hash()}".encode()).hexdigest()[:16]


def _entry(profile: str, claim: numbers.Claim) -> Entry:
    test = TESTS[claim.id]
    stored = test.stored(profile, claim.id)
    try:
        finding = test.judge(stored)
    except NotRun as unrun:
        finding = Finding(NOT_RUN, {}, str(unrun))
    printed = PRINTED[claim.id]() if claim.id in PRINTED else None
    page = test.page if (PROJECT / "notebooks" / f"{test.page}.ipynb").exists() else ""
    basis = DRAWINGS if profile == "smoke" and test.basis == PICTURES else test.basis
    if not finding.numbers:
        return Entry(claim, finding, printed, "", page, "")
    return Entry(claim, finding, printed, _record(stored), page, basis)


def _record(stored: Stored) -> str:
    """Return the record's path as readers see it."""
    if not stored.path or not stored.file.exists():
        return ""
    return str(stored.file.relative_to(PROJECT)) if stored.file.is_relative_to(PROJECT) else str(stored.file)


def _counted(entries: Sequence[Entry]) -> dict[str, int]:
    found = Counter(entry.finding.verdict for entry in entries)
    return {verdict: found[verdict] for verdict in VERDICTS}


def _plain(number: Number) -> dict[str, Any]:
    """Return a number as JSON can hold it, which knows no NaN."""
    values = number._asdict().items()
    return {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in values}
