"""The section `ownership.json`: who answers for the model, for what use and until when, and who attested it."""

from __future__ import annotations

from typing import Any

from deltadex.evidence.source import PackSource, as_json
from deltadex.ownership.attestation import STATEMENT, Attestation
from deltadex.ownership.facts import Fact


def text(source: PackSource) -> str:
    """Return the section; empty if nothing is known of the model."""
    known = source.facts.ownership
    if known is None:
        return ""
    return as_json(
        {
            "model": known.model,
            "note": "Of the registered model, as people state it in Deltadex or its tags say it: each with its origin.",
            "owner": _fact(known.owner_fact),
            "risk_tier": _fact(known.tier_fact),
            "intended_use": _fact(known.intended_use_fact),
            "review_by": _fact(known.review_by_fact),
            "attestation": {
                "state": known.state,
                "reason": known.reason,
                "until": known.until and known.until.isoformat(),
                "latest": known.attestation and _attested(known.attestation),
            },
        }
    )


def is_by_owner(latest: Attestation) -> bool:
    """Return True if the owner at that time attested, by their name or identity."""
    return latest.owner in (latest.by, latest.identity)


def _fact(fact: Fact) -> dict[str, str | None]:
    return {"value": fact.value or None, "origin": fact.origin, "tag": fact.tag or None, "remark": fact.remark or None}


def _attested(latest: Attestation) -> dict[str, Any]:
    return {
        "statement": STATEMENT,
        "by": latest.by,
        "identity": latest.identity,
        "is_owner": is_by_owner(latest),
        "at": latest.at.isoformat(),
        "owner": latest.owner,
        "tier": latest.tier,
        "intended_use": latest.intended_use,
        "entry": latest.entry_id,
        "entry_hash": latest.hash,
    }
