"""Attestations: the owner of a model states until a date that they know it, and that its use is as stated. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from deltadex.ownership.facts import Fact, OwnershipField
from deltadex.setting_groups import OwnershipSettings
from deltadex.types import Finding, FindingKind, RiskTier

#: Statement of the person who attests.
STATEMENT = "I know this model, and its use is as stated."
_ONE_YEAR = 365


class AttestationState(StrEnum):
    """State of a model's attestation."""

    CURRENT = "current"
    NOT_NEEDED = "not needed"
    NO_TIER = "no tier is stated"
    MISSING = "missing"
    OUTDATED = "outdated"
    EXPIRED = "expired"

    @property
    def is_fine(self) -> bool:
        """True unless it is a finding."""
        return self in (AttestationState.CURRENT, AttestationState.NOT_NEEDED, AttestationState.NO_TIER)


@dataclass(frozen=True)
class Attestation:
    """One attestation, with what was stated at that time.

    Attributes
    ----------
    entry_id, hash
        Its entry in the history, which `deltadex review verify` checks.
    identity
        As in `deltadex.access.Person`.
    """

    entry_id: int
    hash: str
    by: str
    identity: str
    at: datetime
    owner: str
    tier: RiskTier
    intended_use: str


@dataclass(frozen=True)
class Ownership:
    """All that is known of who answers for a registered model, as one value.

    Attributes
    ----------
    attestation
        The latest one, whatever its state; None if there is none.
    state
        State of the attestation today.
    until
        Last day of the attestation; None without one.
    reason
        A sentence about the state, the same every day; empty if it is fine.
    """

    model: str
    owner_fact: Fact
    tier_fact: Fact
    intended_use_fact: Fact
    review_by_fact: Fact
    attestation: Attestation | None
    state: AttestationState
    until: date | None
    reason: str

    @property
    def owner(self) -> str:
        """The owner; empty if unknown."""
        return self.owner_fact.value

    @property
    def tier(self) -> RiskTier | None:
        """The risk tier; None if unknown."""
        return RiskTier(self.tier_fact.value) if self.tier_fact.value else None

    @property
    def intended_use(self) -> str:
        """The intended use; empty if unknown."""
        return self.intended_use_fact.value

    @property
    def review_by(self) -> date | None:
        """Date of the next review; None if unknown."""
        return date.fromisoformat(self.review_by_fact.value) if self.review_by_fact.value else None

    def fact(self, field: OwnershipField) -> Fact:
        """Return the fact of a field."""
        found: Fact = getattr(self, f"{field}_fact")
        return found


def last_day(
    attestation: Attestation, *, tier: RiskTier | None, review_by: date | None, settings: OwnershipSettings
) -> date:
    """Return the last day of an attestation: by the tier of today, or the review date that follows it if sooner."""
    began = attestation.at.date()
    end = began + timedelta(days=settings.attest_days.get(tier or attestation.tier, _ONE_YEAR))
    return min(end, review_by) if review_by is not None and review_by > began else end


def judged(
    model: str,
    facts: dict[OwnershipField, Fact],
    attestation: Attestation | None,
    *,
    settings: OwnershipSettings,
    today: date,
) -> Ownership:
    """Return what is known of a model, with the state of its attestation."""
    owner, tier, use, review = (facts[field] for field in OwnershipField)
    known = Ownership(model, owner, tier, use, review, attestation, AttestationState.NOT_NEEDED, None, "")
    until = (
        None
        if attestation is None
        else last_day(attestation, tier=known.tier, review_by=known.review_by, settings=settings)
    )
    state, reason = _state(known, until, settings=settings, today=today)
    return replace(known, state=state, until=until, reason=reason)


def judge_attestation(version_id: int, known: Ownership) -> list[Finding]:
    """Return a finding if a model's attestation is missing, outdated or expired."""
    if known.state.is_fine:
        return []
    evidence = {
        "reason": known.reason,
        "owner": known.owner,
        "tier": known.tier_fact.value,
        "intended_use": known.intended_use[:300],
    }
    return [Finding(FindingKind.NOT_ATTESTED, version_id, evidence=evidence)]


def _state(
    known: Ownership, until: date | None, *, settings: OwnershipSettings, today: date
) -> tuple[AttestationState, str]:
    attestation = known.attestation
    if attestation is None or until is None:
        if known.tier not in settings.must_attest:
            return AttestationState.NOT_NEEDED if known.tier else AttestationState.NO_TIER, ""
        return AttestationState.MISSING, f"models of the tier {known.tier} need an attestation, and there is none"
    by = f"the attestation of {attestation.at:%Y-%m-%d} by {attestation.by}"
    changed = [
        field.words
        for field, now, then in (
            (OwnershipField.OWNER, known.owner, attestation.owner),
            (OwnershipField.INTENDED_USE, known.intended_use, attestation.intended_use),
        )
        if now != then
    ]
    if changed:
        return AttestationState.OUTDATED, f"{by} is about another {' and '.join(changed)} than is stated now"
    if until < today:
        return AttestationState.EXPIRED, f"{by} ended on {until}"
    return AttestationState.CURRENT, ""
