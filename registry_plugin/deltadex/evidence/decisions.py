"""The section `decisions.json`: decisions about a version, and the part of the log that proves them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from deltadex.errors import EvidenceError
from deltadex.evidence.source import PackSource, as_json
from deltadex.findings.kinds import Reason
from deltadex.reviews.lifecycle import Action

PATH = "decisions.json"
#: Fields of an entry that people read first.
_SHOWN = ("id", "reviewer", "identity", "kind", "action", "status", "reason", "assignee", "rule")
#: The actions in words. A request decides nothing: what it asks for waits for a second person.
_SAYS: Mapping[str, str] = {
    Action.ASSIGNED: "assigned the finding to {assignee}",
    Action.RELEASED: "assigned the finding to nobody",
    Action.ACCEPTED: "accepted the finding as a problem",
    Action.DISMISSED: "dismissed the finding as no problem",
    Action.FIXED: "stated that the problem is fixed",
    Action.REQUESTED: "asked to {reason}: waits for approval by a second person",
    Action.APPROVED: "approved the request to {reason}",
    Action.REFUSED: "refused the request to {reason}",
    Action.REOPENED: "reopened the finding",
    Action.RETURNED: "reopened the finding, because what the decision rests on has changed",
    Action.CLOSED: "closed the finding, because its cause is gone",
    Action.ERASED: "erased the comment of entry {request_id}",
}
#: What becomes of a version by its role in a plan to retire, for the actions that decide about it.
_BECOMES: Mapping[tuple[str, str], str] = {
    (Action.REQUESTED, "keep"): "kept, if approved",
    (Action.REQUESTED, "retire"): "retired, if approved",
    (Action.REQUESTED, "stay"): "left as it is",
    (Action.APPROVED, "keep"): "kept",
    (Action.APPROVED, "retire"): "to be retired",
    (Action.APPROVED, "stay"): "left as it is",
}


def text(source: PackSource) -> str:
    """Return the section."""
    log = source.facts.log
    told = [one for one in log["entries"] if not isinstance(one, str)]
    return as_json(
        {
            "model": source.facts.label,
            "note": "`log.entries` has all entries of the log, in order. Those about this version are in full; of all "
            "others there is only the digest. `deltadex evidence verify` recomputes the chain from them to the head.",
            "decisions": [summary(one) for one in told],
            "undisclosed": len(log["entries"]) - len(told),
            "log": dict(log),
        }
    )


def summary(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about a disclosed entry that people read first, with its comment unless it was erased.

    Raises
    ------
    EvidenceError
        The entry is none of the log.
    """
    try:
        fields, said = told["entry"], told["text"]
        return {
            **{name: fields[name] for name in _SHOWN},
            "decided_at": f"{fields['decided_at']}+00:00",
            "finding": fields["review_id"],
            "says": _says(fields),
            "versions": [{"version": label, "becomes": becomes} for label, becomes in _versions(fields)],
            "comment": said["comment"] if said else None,
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EvidenceError("An entry of the log can't be read", hint="Ask for another copy.") from error


def _says(fields: Mapping[str, Any]) -> str:
    reason = fields["reason"].replace("_", " ")
    says = _SAYS[Action(fields["action"])]
    return says.format(reason=reason, assignee=fields["assignee"], request_id=fields["request_id"])


def _versions(fields: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the versions concerned, and what an entry decides about each: None if nothing.

    A group's evidence has a proposal, which only a request to retire makes a plan.
    """
    if members := json.loads(fields["evidence"] or "{}").get("members"):
        roles = [(one["version"], one["role"]) for one in members]
    else:
        # The newer version of a pair is the one that is retired.
        subjects = [one for one in (fields["subject"], fields["other_subject"]) if one]
        labels = [one.rpartition(":")[2].rpartition("@")[0] or one for one in subjects]
        roles = list(zip(labels, ("retire", ""), strict=False))
    is_plan = fields["reason"] == Reason.RETIRE
    for label, role in roles:
        yield label, _BECOMES.get((fields["action"], role)) if is_plan else None
