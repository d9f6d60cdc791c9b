"""The section `safety.json`: whether the version still tells harmful from harmless requests, as its base does."""

from __future__ import annotations

from dataclasses import asdict

from deltadex.evidence.source import PackSource, as_json
from deltadex.safety import reads as safety


def text(source: PackSource) -> str:
    """Return the section; empty if it was never measured."""
    found = safety.measured(source.tx, source.viewer, source.settings, source.facts.version.id)
    if found is None:
        return ""
    verdict = found.verdict
    return as_json(
        {
            "model": source.facts.label,
            "note": "Separation of harmful from harmless prompts along the base's own refusal direction. Nothing was "
            "answered; it is no test of what the model says.",
            "weights_digest": found.row.weights_digest,
            "base_weights_digest": found.row.base_digest,
            "probes_digest": found.row.probes_digest,
            "verdict": verdict.words,
            "has_collapsed": verdict.has_collapsed,
            "kept": verdict.kept and asdict(verdict.kept),
            "threshold": asdict(verdict.threshold),
            "traits": [
                {"name": one.name, "shift": asdict(one.shift), "auroc_of_base": found.trait_aurocs.get(one.name)}
                for one in found.traits
            ],
        }
    )
