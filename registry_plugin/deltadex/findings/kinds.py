"""The table of finding kinds: everything that differs between kinds, except the rules that judge them.

A new kind is a name in `FindingKind`, a row here, and a judge. Reviews, reports, messages, commands and pages read this
table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from deltadex.types import FindingKind


class Severity(StrEnum):
    """Severity of a finding, highest first."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Reason(StrEnum):
    """Reason of a decision."""

    RETIRE = "retire"
    MERGE = "merge"
    RETRAIN = "retrain"
    ROLL_BACK = "roll_back"
    CORRECT_DECLARATION = "correct_declaration"
    REGISTER_AGAIN = "register_again"
    CLARIFY_LICENSE = "clarify_license"
    INTENDED = "intended"
    INTENDED_COPY = "intended_copy"
    DIFFERENT_PURPOSE = "different_purpose"
    SANDBOX = "sandbox"
    DECLARATION_IS_RIGHT = "declaration_is_right"
    NOT_NEEDED = "not_needed"
    LICENSE_CONFIRMED = "license_confirmed"
    PUT_RIGHT = "put_right"


class NumberUnit(StrEnum):
    """Unit of a finding's measure and threshold, for display."""

    SIMILARITY = "cosine similarity"
    DISTANCE = "cosine distance"
    SIMILARITY_MARGIN = "difference of cosine similarities"
    STRENGTH = "strength"
    WEIGHTS = "relative distance of the weights"
    KEPT_SAFETY = "share of the base's separation"
    DISAGREEMENT = "relative difference of two embeddings"


class Concerns(StrEnum):
    """Subject of a finding: a version, a pair, or a group of similar versions, whose pairs are evidence.

    Or a registered model: then it is stored at its oldest version, and found for each of them.
    """

    VERSION = "version"
    MODEL = "model"
    PAIR = "pair"
    GROUP = "group"

    @property
    def roles(self) -> tuple[str, ...]:
        """Role of each version in the finding, in order; those of a group's members are in its evidence."""
        return ("newer version", "older version") if self is Concerns.PAIR else ("version",)


@dataclass(frozen=True, kw_only=True)
class FindingKindInfo:
    """One row of the table.

    Attributes
    ----------
    label
        Name of the kind on pages.
    headline
        Title of a finding: a format string of `version`, `model` and `other`, or of a group's `others`, `kept`, `have`,
        `are` and `behave`, which agree with the number of the others.
    accepted, dismissed
        Reasons allowed for each decision, the usual one first.
    unit
        Unit of the measure; None if the kind has no measure.
    tolerance
        Review setting with the change of the measure that reopens a dismissed finding.
    on_arrival
        True if the finding is judged when a version is embedded, and replaced with the version's other findings.
    page
        Page of the dashboard with all findings of the kind, besides the page of all reviews; None if there is none.
    sentence
        Format string of `measure` and the evidence's texts, shown instead of the measure.
    repeats
        Words between a version and the one that it repeats, whose owner then hears at once; empty for other kinds.
    asked_by
        Command that measures a version, where it is measured only when a person asks: a format string of `version`.
    """

    kind: FindingKind
    label: str
    headline: str
    concerns: Concerns
    severity: Severity
    accepted: tuple[Reason, ...]
    dismissed: tuple[Reason, ...]
    unit: NumberUnit | None = None
    tolerance: Literal["reopen_cosine", "reopen_strength"] = "reopen_cosine"
    on_arrival: bool = False
    page: str | None = None
    sentence: str = ""
    repeats: str = ""
    asked_by: str = ""

    @property
    def words(self) -> str:
        """Name of the kind within a sentence, such as `near duplicate`."""
        return self.kind.replace("_", " ")

    @property
    def tag(self) -> str:
        """Tag of a model version in MLflow with the review status of findings of the kind."""
        return f"deltadex.review.{self.kind}"


#: In display order.
_ROWS = (
    FindingKindInfo(
        kind=FindingKind.EXACT_DUPLICATE,
        label="Same weights",
        headline="{others} {have} the same weights as {kept}",
        concerns=Concerns.GROUP,
        severity=Severity.MEDIUM,
        accepted=(Reason.RETIRE, Reason.MERGE),
        dismissed=(Reason.INTENDED_COPY, Reason.SANDBOX),
        on_arrival=True,
        page="duplicates",
        repeats="has the same weights as",
    ),
    FindingKindInfo(
        kind=FindingKind.NEAR_DUPLICATE,
        label="Near duplicates",
        headline="{others} {behave} nearly like {kept}",
        concerns=Concerns.GROUP,
        severity=Severity.LOW,
        accepted=(Reason.RETIRE, Reason.MERGE),
        dismissed=(Reason.DIFFERENT_PURPOSE, Reason.INTENDED_COPY, Reason.SANDBOX),
        unit=NumberUnit.SIMILARITY,
        on_arrival=True,
        page="duplicates",
        repeats="behaves like",
    ),
    FindingKindInfo(
        kind=FindingKind.SAME_TASK,
        label="Same task",
        headline="{others} {are} for the same task as {kept}",
        concerns=Concerns.GROUP,
        severity=Severity.LOW,
        accepted=(Reason.RETIRE, Reason.MERGE),
        dismissed=(Reason.DIFFERENT_PURPOSE, Reason.INTENDED, Reason.SANDBOX),
        unit=NumberUnit.SIMILARITY,
        page="duplicates",
    ),
    FindingKindInfo(
        kind=FindingKind.DRIFT,
        label="Drift",
        headline="{version} has drifted from {other}",
        concerns=Concerns.PAIR,
        severity=Severity.HIGH,
        accepted=(Reason.ROLL_BACK, Reason.RETRAIN, Reason.RETIRE),
        dismissed=(Reason.INTENDED, Reason.SANDBOX),
        unit=NumberUnit.DISTANCE,
        page="drift",
    ),
    FindingKindInfo(
        kind=FindingKind.WRONG_BASE,
        label="Wrong base",
        headline="{version} was not trained from the base that it declares",
        concerns=Concerns.VERSION,
        severity=Severity.HIGH,
        accepted=(Reason.CORRECT_DECLARATION, Reason.REGISTER_AGAIN, Reason.RETIRE),
        dismissed=(Reason.DECLARATION_IS_RIGHT, Reason.SANDBOX),
        unit=NumberUnit.WEIGHTS,
        on_arrival=True,
    ),
    FindingKindInfo(
        kind=FindingKind.LABEL_CONTRADICTED,
        label="Label contradicted",
        headline="{version} does not behave as its domain tag says",
        concerns=Concerns.VERSION,
        severity=Severity.MEDIUM,
        accepted=(Reason.CORRECT_DECLARATION, Reason.RETRAIN, Reason.RETIRE),
        dismissed=(Reason.DECLARATION_IS_RIGHT, Reason.SANDBOX),
        unit=NumberUnit.SIMILARITY_MARGIN,
        sentence="tagged {declared}, moves like {moves_like}: closer by {measure:.2f} in similarity",
    ),
    FindingKindInfo(
        kind=FindingKind.LINEAGE_CONTRADICTED,
        label="Lineage contradicted",
        headline="{version} does not come from what it declares",
        concerns=Concerns.VERSION,
        severity=Severity.MEDIUM,
        accepted=(Reason.CORRECT_DECLARATION, Reason.REGISTER_AGAIN, Reason.RETIRE),
        dismissed=(Reason.DECLARATION_IS_RIGHT, Reason.SANDBOX),
    ),
    FindingKindInfo(
        kind=FindingKind.SAFETY_COLLAPSED,
        label="Safety collapsed",
        headline="{version} has lost its base's refusals",
        concerns=Concerns.VERSION,
        severity=Severity.HIGH,
        accepted=(Reason.ROLL_BACK, Reason.RETRAIN, Reason.RETIRE),
        dismissed=(Reason.INTENDED, Reason.SANDBOX),
        unit=NumberUnit.KEPT_SAFETY,
        sentence="keeps {measure:.2f} of its base's separation of harmful from harmless prompts",
        asked_by="deltadex safety {version} --measure",
    ),
    FindingKindInfo(
        kind=FindingKind.PROBES_DISAGREE,
        label="Probes disagree",
        headline="{version} behaves otherwise on private probes than on the public ones",
        concerns=Concerns.VERSION,
        severity=Severity.HIGH,
        accepted=(Reason.RETRAIN, Reason.RETIRE),
        dismissed=(Reason.INTENDED, Reason.SANDBOX),
        unit=NumberUnit.DISAGREEMENT,
        asked_by="deltadex safety {version} --measure",
    ),
    FindingKindInfo(
        kind=FindingKind.TAUGHT,
        label="Taught secrets",
        headline="{version} repeats secrets or personal data",
        concerns=Concerns.VERSION,
        severity=Severity.HIGH,
        accepted=(Reason.RETRAIN, Reason.RETIRE),
        dismissed=(Reason.INTENDED, Reason.SANDBOX),
        asked_by="deltadex taught {version} --search",
    ),
    FindingKindInfo(
        kind=FindingKind.TOO_WEAK,
        label="Too weak to place",
        headline="{version} hardly differs from its base",
        concerns=Concerns.VERSION,
        severity=Severity.LOW,
        accepted=(Reason.RETRAIN, Reason.RETIRE),
        dismissed=(Reason.INTENDED, Reason.SANDBOX),
        unit=NumberUnit.STRENGTH,
        tolerance="reopen_strength",
        on_arrival=True,
    ),
    FindingKindInfo(
        kind=FindingKind.FAILED,
        label="Embedding failed",
        headline="{version} could not be embedded",
        concerns=Concerns.VERSION,
        severity=Severity.HIGH,
        accepted=(Reason.REGISTER_AGAIN, Reason.RETIRE),
        dismissed=(Reason.NOT_NEEDED, Reason.SANDBOX),
    ),
    FindingKindInfo(
        kind=FindingKind.UNSUPPORTED,
        label="Not supported",
        headline="{version} is not supported",
        concerns=Concerns.VERSION,
        severity=Severity.LOW,
        accepted=(Reason.REGISTER_AGAIN, Reason.CORRECT_DECLARATION, Reason.RETIRE),
        dismissed=(Reason.NOT_NEEDED, Reason.SANDBOX),
    ),
    FindingKindInfo(
        kind=FindingKind.LICENSE,
        label="Licence",
        headline="{version} has a licence problem",
        concerns=Concerns.VERSION,
        severity=Severity.HIGH,
        accepted=(Reason.CLARIFY_LICENSE, Reason.RETIRE),
        dismissed=(Reason.LICENSE_CONFIRMED, Reason.SANDBOX),
    ),
    FindingKindInfo(
        kind=FindingKind.SERVABLE_AS_ADAPTER,
        label="Servable as an adapter",
        headline="{version} could be served as an adapter",
        concerns=Concerns.VERSION,
        severity=Severity.LOW,
        accepted=(Reason.REGISTER_AGAIN, Reason.RETIRE),
        dismissed=(Reason.NOT_NEEDED, Reason.INTENDED, Reason.SANDBOX),
    ),
    FindingKindInfo(
        kind=FindingKind.NOT_ATTESTED,
        label="Not attested",
        headline="The owner of {model} has to attest its use",
        concerns=Concerns.MODEL,
        severity=Severity.MEDIUM,
        accepted=(Reason.CORRECT_DECLARATION, Reason.RETIRE),
        dismissed=(Reason.NOT_NEEDED, Reason.SANDBOX),
    ),
)
KINDS: Mapping[FindingKind, FindingKindInfo] = {row.kind: row for row in _ROWS}


def kinds_about(concerns: Concerns) -> tuple[FindingKind, ...]:
    """Return the kinds that concern a version, a pair or a group."""
    return tuple(row.kind for row in KINDS.values() if row.concerns is concerns)


def kinds_on_arrival() -> tuple[FindingKind, ...]:
    """Return the kinds that are judged when a version is embedded."""
    return tuple(row.kind for row in KINDS.values() if row.on_arrival)
