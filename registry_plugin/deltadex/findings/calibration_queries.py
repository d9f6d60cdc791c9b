"""Queries of calibration: the sample of versions, and stored results."""

from __future__ import annotations

from dataclasses import asdict
from typing import LiteralString

import numpy as np
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from deltadex.findings.calibration import Calibration, Sample, Steps, Threshold
from deltadex.store.database import Transaction

#: 11,000 pairs, clustered in 0.2 s; 400 versions take 1 s.
MOST_VERSIONS = 150
MOST_STEPS = 1_000

_COMPARED: LiteralString = """
    select distinct on (weights_digest) weights_digest, model_version_id, name, training_digest
    from comparable_embeddings where recipe_id = %(recipe_id)s and registry = %(registry)s
    order by weights_digest, created_ms, name collate "C", version
"""
_ANY: LiteralString = "select * from compared order by weights_digest limit %(most)s"
_RESEEDS: LiteralString = """
    select * from compared where training_digest in (
        select training_digest from compared group by training_digest having count(*) > 1)
    order by training_digest, weights_digest limit %(most)s
"""
_WITH_VECTORS: LiteralString = """
    with compared as ({compared}), chosen as ({chosen})
    select vector, name, training_digest from chosen
    join current_embeddings using (model_version_id) where recipe_id = %(recipe_id)s
    order by chosen.weights_digest
"""


def any_versions(tx: Transaction, recipe_id: int, registry: str) -> Sample:
    """Return the versions with the lowest weights digests: a random sample that does not depend on arrival order."""
    return _sample(tx, _ANY, recipe_id, registry)


def reseeds(tx: Transaction, recipe_id: int, registry: str) -> Sample:
    """Return versions that share their training digest with others, by ascending training digest."""
    return _sample(tx, _RESEEDS, recipe_id, registry)


def steps(tx: Transaction, recipe_id: int, registry: str) -> Steps:
    """Return the moves between successive versions of a model with other weights, the newest ones."""
    found = tx.execute(
        """
        with placed as (
            select name, model_version_id as newer, weights_digest, created_ms, version,
                lag(model_version_id) over one as older, lag(weights_digest) over one as older_weights
            from comparable_embeddings where recipe_id = %(recipe_id)s and registry = %(registry)s
            window one as (partition by name order by created_ms, version)
        ), newest as (
            select name, older, newer from placed where older_weights <> weights_digest
            order by created_ms desc, name collate "C", version limit %(most)s
        )
        select name, coalesce(nullif(before.vector <=> after.vector, 'NaN'), 1) from newest
        join current_embeddings before on before.model_version_id = older and before.recipe_id = %(recipe_id)s
        join current_embeddings after on after.model_version_id = newer and after.recipe_id = %(recipe_id)s
        """,
        {"recipe_id": recipe_id, "registry": registry, "most": MOST_STEPS},
    ).fetchall()
    return Steps(np.array([distance for _, distance in found]), len({name for name, _ in found}))


def remembered(
    tx: Transaction, recipe_id: int, registry: str, *, setting: Calibration, lately: bool = False
) -> Calibration | None:
    """Return the stored calibration for this setting, or None.

    Parameters
    ----------
    lately
        Ignore a calibration that is older than 100 times its computing time.
    """
    row = tx.execute(
        """
        select found from calibrations where recipe_id = %s and registry = %s and setting = %s
            and (not %s or clock_timestamp() - found_at < make_interval(secs => 100 * seconds))
        """,
        [recipe_id, registry, Jsonb(asdict(setting)), lately],
    ).fetchone()
    if row is None:
        return None
    limits = {name: Threshold(**value) for name, value in row[0].items() if isinstance(value, dict)}
    return Calibration(**{**row[0], **limits})


def remember(
    tx: Transaction, recipe_id: int, registry: str, found: Calibration, *, setting: Calibration, seconds: float
) -> None:
    """Store a calibration and its computing time in seconds."""
    tx.execute(
        """
        insert into calibrations (recipe_id, registry, setting, found, seconds) values (%s, %s, %s, %s, %s)
        on conflict (recipe_id, registry) do update set
            setting = excluded.setting, found = excluded.found, seconds = excluded.seconds, found_at = clock_timestamp()
        """,
        [recipe_id, registry, Jsonb(asdict(setting)), Jsonb(asdict(found)), seconds],
    )


def _sample(tx: Transaction, chosen: LiteralString, recipe_id: int, registry: str) -> Sample:
    query = SQL(_WITH_VECTORS).format(compared=SQL(_COMPARED), chosen=SQL(chosen))
    parameters = {"recipe_id": recipe_id, "registry": registry, "most": MOST_VERSIONS}
    found = tx.execute(query, parameters, binary=True).fetchall()
    vectors = np.array([vector.to_numpy() for vector, _, _ in found], dtype=np.float32)
    return Sample(vectors, [name for _, name, _ in found], [training for _, _, training in found])
