"""The section `decisions.json`: decisions about a version, and the part of the log that proves them."""

from __future__ import annotations

from typing import Any

from deltadex.evidence.source import PackSource, as_json

PATH = "decisions.json"
#: Fields of an entry that people read first.
_SHOWN = ("id", "decided_at", "action", "status", "reason", "reviewer", "kind", "subject", "other_subject")


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


def summary(told: dict[str, Any]) -> dict[str, str | None]:
    """Return the facts about a disclosed entry that people read first, with its comment unless it was erased."""
    fields, said = told["entry"], told["text"]
    return {**{name: fields[name] for name in _SHOWN}, "comment": said["comment"] if said else None}
