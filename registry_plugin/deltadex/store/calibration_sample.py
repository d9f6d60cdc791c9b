"""What a recipe's thresholds are calibrated from: its versions, or a sample of them that only its content decides."""

from __future__ import annotations

from dataclasses import asdict
from typing import LiteralString

import numpy as np
from psycopg.sql import SQL
from psycopg.types.json import Jsonb

from deltadex.analysis.calibration import Calibration, Sample, Threshold
from deltadex.store.database import Transaction

#: 11,000 pairs, clustered in a fifth of a second; 400 versions take a whole one.
MOST_VERSIONS = 150

_COMPARED: LiteralString = """
    select distinct on (embeddings.weights_digest) embeddings.weights_digest, id, name, training_digest
    from current_embeddings embeddings join model_versions on id = model_version_id
    where recipe_id = %(recipe_id)s and registry = %(registry)s and state <> 'deleted' and not is_weak and norm > 0
    order by embeddings.weights_digest, created_ms, name collate "C", version
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
    join current_embeddings on model_version_id = id and recipe_id = %(recipe_id)s
    order by chosen.weights_digest
"""


def any_versions(tx: Transaction, recipe_id: int, registry: str, *, most: int = MOST_VERSIONS) -> Sample:
    """Return the versions with the lowest weights digests, which is a draw by chance, whatever came first."""
    return _sample(tx, _ANY, recipe_id, registry, most)


def reseeds(tx: Transaction, recipe_id: int, registry: str, *, most: int = MOST_VERSIONS) -> Sample:
    """Return versions whose training others have too: those of the trainings with the lowest digests."""
    return _sample(tx, _RESEEDS, recipe_id, registry, most)


def remembered(
    tx: Transaction, recipe_id: int, registry: str, *, setting: Calibration, lately: bool = False
) -> Calibration | None:
    """Return what was found last with this setting, or None.

    Parameters
    ----------
    lately
        Not what was found longer ago than a hundred times as long as it took.
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
    return Calibration(**limits, reseed_distance=row[0]["reseed_distance"])


def remember(
    tx: Transaction, recipe_id: int, registry: str, found: Calibration, *, setting: Calibration, seconds: float
) -> None:
    """Keep what was found, and how long that took."""
    tx.execute(
        """
        insert into calibrations (recipe_id, registry, setting, found, seconds) values (%s, %s, %s, %s, %s)
        on conflict (recipe_id, registry) do update set
            setting = excluded.setting, found = excluded.found, seconds = excluded.seconds, found_at = clock_timestamp()
        """,
        [recipe_id, registry, Jsonb(asdict(setting)), Jsonb(asdict(found)), seconds],
    )


def _sample(tx: Transaction, chosen: LiteralString, recipe_id: int, registry: str, most: int) -> Sample:
    query = SQL(_WITH_VECTORS).format(compared=SQL(_COMPARED), chosen=SQL(chosen))
    parameters = {"recipe_id": recipe_id, "registry": registry, "most": most}
    found = tx.execute(query, parameters, binary=True).fetchall()
    vectors = np.array([vector.to_numpy() for vector, _, _ in found], dtype=np.float32)
    return Sample(vectors, [name for _, name, _ in found], [training for _, _, training in found])
