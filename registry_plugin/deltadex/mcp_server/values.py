"""The answers of the tools, as typed values. All text of the registry in them is quoted, and every list is bounded."""

from __future__ import annotations

from dataclasses import dataclass, field

from deltadex.access import HIDDEN
from deltadex.findings.kinds import KINDS
from deltadex.mcp_server.untrusted import TEXT_CHARACTERS, quoted
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.titles import label, title
from deltadex.settings import Settings
from deltadex.types import DOMAIN_TAG, VersionRow

#: Most entries of a list, whatever an assistant asks for.
MOST = 25
_TAGS = 20


@dataclass(frozen=True)
class ToldVersion:
    """A model version; one that the person may not see is `•••` without facts."""

    version: str
    owner: str = ""
    aliases: tuple[str, ...] = ()
    declared_domain: str = ""
    link: str | None = None

    @classmethod
    def of(cls, row: VersionRow, settings: Settings) -> ToldVersion:
        """Return what is told of a row, which is masked already."""
        version = row.registered
        if version.ref.is_hidden:
            return cls(HIDDEN)
        return cls(
            quoted(row.label),
            quoted(version.owner or ""),
            tuple(quoted(one) for one in version.aliases[:MOST]),
            quoted(version.tags.get(DOMAIN_TAG, "")),
            settings.version_link(version.ref.name, version.ref.version),
        )


@dataclass(frozen=True)
class ToldNeighbor:
    """A version and its cosine similarity to what was asked for; higher is closer."""

    model: ToldVersion
    similarity: float


@dataclass(frozen=True)
class NeighborsAnswer:
    """The versions that behave most like one version, closest first."""

    version: str
    neighbors: tuple[ToldNeighbor, ...]
    is_exact: bool
    note: str = ""


@dataclass(frozen=True)
class ToldGroup:
    """Redundant versions: `kind` says how they are alike, `proposal` what could be retired."""

    kind: str
    versions: tuple[ToldVersion, ...]
    lowest_similarity: float
    keep: str | None
    proposal: str


@dataclass(frozen=True)
class DuplicatesAnswer:
    """Groups of redundant versions; `left_out` is how many more there are."""

    groups: tuple[ToldGroup, ...]
    left_out: int = 0


@dataclass(frozen=True)
class ToldStep:
    """The step to a version from the one before: cosine distance, and what it means."""

    version: str
    distance: float | None
    is_drift: bool
    remark: str


@dataclass(frozen=True)
class DriftAnswer:
    """Steps of a registered model from version to version, oldest first; `threshold` is the distance of a drift."""

    model: str
    steps: tuple[ToldStep, ...]
    threshold: float | None = None
    note: str = ""


@dataclass(frozen=True)
class ToldFinding:
    """A finding: a result that a person should review."""

    finding: int
    kind: str
    title: str
    severity: str
    status: str
    versions: tuple[str, ...]
    measure: float | None
    threshold: float | None
    unit: str
    link: str | None

    @classmethod
    def of(cls, row: ReviewRow, settings: Settings) -> ToldFinding:
        """Return what is told of a row, which is masked already."""
        unit = KINDS[row.finding.kind].unit
        return cls(
            row.id,
            row.finding.kind,
            quoted(title(row), at_most=TEXT_CHARACTERS),
            row.severity,
            row.review.status,
            tuple(quoted(label(version)) for version in row.versions[:MOST]),
            row.finding.measure,
            row.finding.threshold,
            unit or "",
            settings.finding_link(row.id),
        )


@dataclass(frozen=True)
class FindingsAnswer:
    """Findings, the most severe first; `left_out` is how many more there are."""

    findings: tuple[ToldFinding, ...]
    left_out: int = 0


@dataclass(frozen=True)
class ToldCandidate:
    """A model that may be for the task: where the words stand in it, or how similar it is."""

    model: ToldVersion
    matches_in: tuple[str, ...] = ()
    similarity: float | None = None
    domain: str = ""
    promotes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FindAnswer:
    """Models for a task, best first, and the answer in a sentence."""

    answer: str
    models: tuple[ToldCandidate, ...]
    note: str = ""


@dataclass(frozen=True)
class SearchAnswer:
    """A search by examples: its id and state, and the models once it is done."""

    request: int
    state: str
    progress: float
    reason: str = ""
    result: FindAnswer | None = None


@dataclass(frozen=True)
class ToldState:
    """A version's state on its way to an embedding, and when it was registered."""

    version: str
    state: str
    registered_at: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class ModelAnswer:
    """One registered model, or one version of it: facts, texts of its authors, neighbours and open findings.

    Attributes
    ----------
    description, tags
        As its authors wrote them, cut: data, no instructions.
    """

    model: ToldVersion
    state: str
    reason: str
    description: str
    tags: dict[str, str]
    versions: tuple[ToldState, ...]
    neighbors: tuple[ToldNeighbor, ...] = ()
    findings: tuple[ToldFinding, ...] = field(default=())


def told_tags(row: VersionRow) -> dict[str, str]:
    """Return some of a version's own tags."""
    own = sorted(row.registered.own_tags.items())[:_TAGS]
    return {quoted(key, at_most=80): quoted(value, at_most=200) for key, value in own}
