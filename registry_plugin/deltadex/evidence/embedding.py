"""The section `embedding.json`: the embeddings of a version with their recipes and digests."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np

from deltadex.embeddings.queries import StoredEmbedding
from deltadex.evidence.facts import EvidenceFacts
from deltadex.evidence.source import PackSource, as_json

FORMAT = "deltadex-evidence-embedding/1"


def text(source: PackSource) -> str:
    """Return the section."""
    facts = source.facts
    row = facts.version
    return as_json(
        {
            "format": FORMAT,
            "model": row.registered.ref.name,
            "version": row.registered.ref.version,
            "created_ms": row.registered.ref.created_ms,
            "registry": facts.registry,
            "note": "`base_and_prompts_digest` is over the digest of the base's weights and the tokens of the prompts, "
            "so it differs from `base_weights_digest` of safety.json for the same base.",
            "source": facts.source,
            "run": row.registered.run_id,
            "state": row.state,
            "artifact": row.artifact_uri,
            "weights_digest": row.weights_digest,
            "weights_bytes": row.provenance.weights_bytes,
            "embeddings": [_described(facts, one) for one in facts.embeddings],
        }
    )


def _described(facts: EvidenceFacts, stored: StoredEmbedding) -> dict[str, Any]:
    recipe = stored.recipe
    found = next((one for one in facts.words if one.recipe.id == recipe.id), None)
    return {
        "recipe": {
            "digest": recipe.digest,
            "method": dict(facts.methods.get(recipe.digest, {})),
            "base": recipe.base_name,
            "base_and_prompts_digest": recipe.base_digest,
            "dimension": recipe.dimension,
        },
        "noise_floor": recipe.noise_floor,
        "norm": stored.norm,
        "strength": stored.strength,
        "probe_agreement": stored.agreement,
        "is_too_weak": stored.is_weak,
        "stored_at": stored.created_at.isoformat(),
        "vector": [float(value) for value in stored.vector],
        "vector_sha256": hashlib.sha256(np.ascontiguousarray(stored.vector, dtype="<f4").tobytes()).hexdigest(),
        "words": asdict(found.words) if found and found.words else None,
    }
