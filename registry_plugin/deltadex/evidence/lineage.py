"""The section `lineage.json`: where a version comes from, as declared and as measured."""

from __future__ import annotations

from typing import Any

from deltadex.evidence.facts import EvidenceFacts
from deltadex.evidence.source import PackSource, as_json
from deltadex.lineage.graph import Edge
from deltadex.types import VersionRow


def text(source: PackSource) -> str:
    """Return the section."""
    facts = source.facts
    base = facts.base
    return as_json(
        {
            "model": facts.label,
            "base": {
                "declared": facts.base_name or None,
                "measured": None
                if base is None
                else {
                    "verdict": base.verdict,
                    "name": base.name or None,
                    "p": base.p,
                    "consistent": len(base.consistent),
                },
            },
            "relations": [_described(facts, edge) for edge in facts.edges],
            "remarks": list(facts.remarks),
        }
    )


def name_of(facts: EvidenceFacts, each: VersionRow | str) -> str:
    """Return the name of a version or base, or the pseudonym of a hidden version."""
    return each if isinstance(each, str) else facts.names.name(each)


def _described(facts: EvidenceFacts, edge: Edge) -> dict[str, Any]:
    return {
        "from": name_of(facts, edge.source),
        "to": name_of(facts, edge.target),
        "relation": edge.relation,
        "known_by": "declaration" if edge.relation.is_declared else "measurement",
        "has_order": edge.has_order,
        "similarity": edge.similarity,
        "p": edge.p,
        "weight": edge.weight,
    }
