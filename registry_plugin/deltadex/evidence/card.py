"""The section `model-card.md`: what is known of a version, for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from deltadex.evidence.decisions import summary
from deltadex.evidence.findings import is_masked, status_words
from deltadex.evidence.lineage import name_of
from deltadex.evidence.ownership import is_by_owner
from deltadex.evidence.source import PackSource
from deltadex.evidence.templates import templates
from deltadex.evidence.training import license_words
from deltadex.findings.kinds import KINDS
from deltadex.ownership.attestation import Ownership
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.titles import title
from deltadex.types import FindingKind

_WORDS = 10


@dataclass(frozen=True)
class _Decision:
    """One decision as a row of the card."""

    when: str
    who: str
    finding: str
    did: str
    versions: str
    reason: str
    comment: str

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        rule = f" by the rule {told['rule']}" if told["rule"] else ""
        concerned = [one["version"] + (f" ({one['becomes']})" if one["becomes"] else "") for one in told["versions"]]
        return cls(
            when=f"{datetime.fromisoformat(told['decided_at']):%Y-%m-%d %H:%M:%S} UTC",
            who=_person(told["reviewer"], told["identity"]),
            finding=f"{told['finding']}: {KINDS[FindingKind(told['kind'])].label}",
            did=told["says"] + rule,
            versions=", ".join(concerned),
            reason=told["reason"].replace("_", " ") or "–",
            comment="erased on request" if told["comment"] is None else told["comment"] or "–",
        )


def text(source: PackSource) -> str:
    """Return the section. Names, tags and comments are untrusted: the template escapes them as Markdown."""
    facts = source.facts
    logged = facts.record
    words = next((one.words for one in facts.words if one.words and not one.words.note), None)
    return (
        templates(is_markup=False)
        .get_template("card.md.jinja")
        .render(
            facts=facts,
            row=facts.version,
            owned=facts.ownership,
            embedding=facts.embeddings[0] if facts.embeddings else None,
            license_finetune=license_words(facts.licenses.of_finetune),
            license_base=license_words(facts.licenses.of_base),
            tags=sorted(facts.version.registered.own_tags.items()),
            relations=[(name_of(facts, edge.source), name_of(facts, edge.target), edge) for edge in facts.edges],
            attestation=_attestation(facts.ownership) if facts.ownership else "",
            findings=[(_finding(one), status_words(one), one) for one in facts.findings],
            decisions=[_Decision.of(summary(one)) for one in facts.log["entries"] if not isinstance(one, str)],
            neighbors=[(facts.names.name(one.version), one.similarity) for one in facts.neighbors.neighbors],
            logged=[
                (part, sorted(logged[part].items())) for part in ("parameters", "data", "code") if logged.get(part)
            ],
            metrics=sorted(facts.version.provenance.metrics.items()),
            promoted=[word.text for word in words.promoted[:_WORDS]] if words else [],
            demoted=[word.text for word in words.demoted[:_WORDS]] if words else [],
        )
    )


def _finding(row: ReviewRow) -> str:
    if is_masked(row):
        return f"{KINDS[row.finding.kind].label}, with a model that the person who asked may not see"
    return title(row)


def _attestation(known: Ownership) -> str:
    latest = known.attestation
    if latest is None:
        return known.state.value
    of = "the owner" if is_by_owner(latest) else f"not the owner, who was {latest.owner}"
    until = f", until {known.until}" if known.until else ""
    by = _person(latest.by, latest.identity)
    return f"{known.state.value}{until}: by {by}, {of}, at {latest.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _person(name: str, identity: str) -> str:
    return name if identity in ("", name) else f"{name} ({identity})"
