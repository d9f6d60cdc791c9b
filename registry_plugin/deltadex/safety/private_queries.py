"""Queries of the readings by private probes."""

from __future__ import annotations

from dataclasses import asdict

from deltadex.safety.private import PrivateReading
from deltadex.store.database import Transaction


def save_reading(
    tx: Transaction,
    version_id: int,
    reading: PrivateReading,
    *,
    probes_digest: str,
    weights_digest: str,
    base_digest: str,
) -> None:
    """Store the reading of a version, instead of an earlier one by the same probes."""
    tx.execute(
        """
        insert into private_readings (
            model_version_id, probes_digest, weights_digest, base_digest, public_strength, private_strength, similarity,
            noise_floor)
        values (%(id)s, %(probes)s, %(weights)s, %(base)s, %(public_strength)s, %(private_strength)s, %(similarity)s,
            %(noise_floor)s)
        on conflict (model_version_id, probes_digest) do update set
            weights_digest = excluded.weights_digest, base_digest = excluded.base_digest,
            public_strength = excluded.public_strength, private_strength = excluded.private_strength,
            similarity = excluded.similarity, noise_floor = excluded.noise_floor, measured_at = clock_timestamp()
        """,
        {
            "id": version_id,
            "probes": probes_digest,
            "weights": weights_digest,
            "base": base_digest,
            **asdict(reading),
        },
    )


def readings_of_base(tx: Transaction, registry: str, base_digest: str, probes_digest: str) -> dict[int, PrivateReading]:
    """Return the readings of a base's versions by these probes, by the version's id."""
    found = tx.execute(
        """
        select model_version_id, public_strength, private_strength, similarity, noise_floor
        from private_readings join model_versions on id = model_version_id
        where registry = %s and state <> 'deleted' and base_digest = %s and probes_digest = %s
        order by model_version_id
        """,
        [registry, base_digest, probes_digest],
    )
    return {version_id: PrivateReading(*values) for version_id, *values in found}


def latest_reading(tx: Transaction, version_id: int, *, weights_digest: str | None = None) -> PrivateReading | None:
    """Return the latest reading of a version, or of these weights of it; None if there is none."""
    row = tx.execute(
        """
        select public_strength, private_strength, similarity, noise_floor from private_readings
        where model_version_id = %(id)s and weights_digest = coalesce(%(weights)s, weights_digest)
        order by measured_at desc limit 1
        """,
        {"id": version_id, "weights": weights_digest},
    ).fetchone()
    return None if row is None else PrivateReading(*row)
