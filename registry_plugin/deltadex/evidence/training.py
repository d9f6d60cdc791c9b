"""The section `training.json`: licences, and what the version's run had logged when the version was embedded."""

from __future__ import annotations

from deltadex.evidence.source import PackSource, as_json

#: Words for a licence that was not read.
NOT_READ = "not read: it was embedded before licences were kept"


def text(source: PackSource) -> str:
    """Return the section."""
    facts = source.facts
    row = facts.version
    return as_json(
        {
            "model": facts.label,
            "run": row.registered.run_id,
            "licenses": {
                "finetune": license_words(facts.licenses.of_finetune),
                "base": license_words(facts.licenses.of_base),
                "base_name": facts.base_name or None,
            },
            "parameters": dict(facts.record.get("parameters", {})),
            "data_sets": dict(facts.record.get("data", {})),
            "code": dict(facts.record.get("code", {})),
            "training_digest": row.provenance.training_digest,
            "metrics": dict(row.provenance.metrics),
            "note": "As logged by the run and read when the version was embedded; Deltadex did not measure them. Long "
            "values end in a digest, and seeds and folders of the run are left out.",
        }
    )


def license_words(declared: str | None) -> str:
    """Return a declared licence, or in words that there is none."""
    if declared is None:
        return NOT_READ
    return declared or "none declared"
