"""Registered versions and embeddings to store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deltadex.access import Person, Role
from deltadex.checkpoints.sketch import Sketch
from deltadex.duplicates.group_queries import StoredGroup, stored_groups
from deltadex.duplicates.group_queries import replace as replace_groups
from deltadex.duplicates.replan import plan_of
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.engine.probes import PUBLISHED
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import Embedding, Finding, FindingKind, FloatArray, ModelVersionRef, Recipe, RegisteredVersion
from deltadex.versions import transitions

REGISTRY = "acme"
#: Sees every model and may do everything, as the only person at a machine without a list of people.
ADMIN = Person("ada", Role.ADMIN)
HOUR_MS = 3_600_000


def registered(name: str = "support", version: int = 1, **values: object) -> RegisteredVersion:
    created_ms = values.pop("created_ms", version * HOUR_MS)
    registry = values.pop("registry", REGISTRY)
    ref = ModelVersionRef(registry, name, version, created_ms)
    return RegisteredVersion(ref, **{"source": f"runs:/abc/{name}-{version}", **values})


def discovered(tx: Transaction, name: str = "support", version: int = 1, **values: object) -> int:
    [version_id] = transitions.discover(tx, [registered(name, version, **values)], fresh_since_ms=0)
    return version_id


def embedding(vector: FloatArray, *, weights: str = "w1", base: str = "base", base_norm: float = 10.0) -> Embedding:
    deltas = np.tile(np.asarray(vector, dtype=np.float32), (5, 1))
    return Embedding(Recipe(PUBLISHED, base, deltas.shape[1]), deltas, base_norm, weights)


def embedded(
    tx: Transaction, name: str, vector: FloatArray, *, version: int = 1, weights: str | None = None, **values: object
) -> int:
    """Return the id of a version that has this vector; `weights` differ unless given."""
    is_weak, base = bool(values.pop("is_weak", False)), str(values.pop("base", "base"))
    digest = str(values.pop("base_digest", base))
    said = values.pop("words", None)
    version_id = discovered(tx, name, version, **values)
    value = replace(embedding(vector, weights=weights or f"{name}/{version}", base=digest), words=said)
    uri = f"runs:/abc/{name}"
    recipe_id = embeddings.save(tx, version_id, value, base_name=base, artifact_uri=uri, is_weak=is_weak)
    promoted_tokens.save(tx, version_id, recipe_id, value)
    return version_id


def grouped(
    tx: Transaction, ids: Sequence[int], measure: float | None = 0.96, *, kind: FindingKind = FindingKind.NEAR_DUPLICATE
) -> None:
    """Let a round find that some versions are a group of near duplicates, or that none are if there is no measure."""
    settings = Settings(registry=REGISTRY)
    before = [one for one in stored_groups(tx, REGISTRY, kinds=[kind]) if not one.ids.isdisjoint(ids)]
    after = []
    if measure is not None:
        plan = plan_of(tx, settings, ids, keeper=None)
        threshold = None if kind is FindingKind.EXACT_DUPLICATE else 0.95
        finding = Finding(kind, min(ids), measure=measure if threshold else None, threshold=threshold)
        after = [StoredGroup(replace(finding, evidence=plan.evidence()), None)]
    replace_groups(tx, before, after)
    tx.execute("update findings set measured_at = now() where evidence ? 'members'")


def sketched(tx: Transaction, version_id: int, sketch: Sketch) -> None:
    """Store the sketch of a version's weights."""
    tx.execute(
        """
        insert into lineage_sketches (model_version_id, recipe_id, weights_digest, layout, sketch, coarse)
        select model_version_id, recipe_id, weights_digest, %s, %s, %s from current_embeddings
        where model_version_id = %s
        """,
        [sketch.layout, sketch.to_bytes(), sketch.coarse().to_bytes(), version_id],
    )
