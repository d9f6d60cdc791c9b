"""Stored Delta Meanings of versions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deltadex.across.meaning import Meaning
from deltadex.store.database import Transaction
from deltadex.types import FloatArray, VersionRow
from deltadex.versions.queries import by_ids


@dataclass(frozen=True, eq=False)
class MeaningTable:
    """Delta Meanings of a registry's versions, in the order of version ids.

    Attributes
    ----------
    rows
        `n` versions.
    base_names, base_digests
        Base of each.
    texts, tokens
        `(n, n_texts)` and `(n, n_tokens)` float32, as in `Meaning`.
    """

    rows: tuple[VersionRow, ...]
    base_names: tuple[str, ...]
    base_digests: tuple[str, ...]
    texts: FloatArray
    tokens: FloatArray


@dataclass(frozen=True)
class Coverage:
    """Numbers of a base's versions that may be compared across bases, and of those whose Delta Meaning is known."""

    base_name: str
    versions: int
    known: int


def due(tx: Transaction, registry: str, *, texts_digest: str) -> list[tuple[int, str]]:
    """Return ids and base names of the versions whose Delta Meaning is not known, those of a base one after another."""
    return tx.execute(
        """
        select model_version_id, base_name from meaning_candidates candidate
        where registry = %s and not exists (
            select from meanings known where known.model_version_id = candidate.model_version_id
                and known.weights_digest = candidate.weights_digest and texts_digest = %s)
        order by base_name, model_version_id
        """,
        [registry, texts_digest],
    ).fetchall()


def coverage(tx: Transaction, registry: str, *, texts_digest: str) -> list[Coverage]:
    """Return how many versions of each base may be compared across bases, by the base's name."""
    found = tx.execute(
        """
        select candidate.base_name, count(*), count(text_shifts)
        from meaning_candidates candidate
        left join meanings known on known.model_version_id = candidate.model_version_id
            and known.weights_digest = candidate.weights_digest and texts_digest = %s
        where registry = %s group by candidate.base_name order by candidate.base_name
        """,
        [texts_digest, registry],
    )
    return [Coverage(*values) for values in found]


def table(tx: Transaction, registry: str, *, texts_digest: str) -> MeaningTable:
    """Return the Delta Meanings of a registry's versions that may be compared, without those of earlier weights."""
    found = tx.execute(
        """
        select model_version_id, known.base_name, base_digest, text_shifts, token_shifts
        from meaning_candidates join meanings known using (model_version_id, weights_digest)
        where registry = %s and texts_digest = %s order by model_version_id
        """,
        [registry, texts_digest],
        binary=True,
    ).fetchall()
    rows = by_ids(tx, [version_id for version_id, *_ in found])
    there = [one for one in found if one[0] in rows]
    return MeaningTable(
        tuple(rows[version_id] for version_id, *_ in there),
        tuple(one[1] for one in there),
        tuple(one[2] for one in there),
        *(np.array([one[at] for one in there], dtype=np.float32).reshape(len(there), -1) for at in (3, 4)),
    )


def save(
    tx: Transaction,
    version_id: int,
    meaning: Meaning,
    *,
    texts_digest: str,
    weights_digest: str,
    base_digest: str,
    base_name: str,
) -> None:
    """Store a version's Delta Meaning; that of other weights is replaced."""
    tx.execute(
        """
        insert into meanings as known (
            model_version_id, texts_digest, weights_digest, base_digest, base_name, text_shifts, token_shifts)
        values (%s, %s, %s, %s, %s, %s, %s)
        on conflict (model_version_id, texts_digest) do update set
            weights_digest = excluded.weights_digest, base_digest = excluded.base_digest,
            base_name = excluded.base_name, text_shifts = excluded.text_shifts,
            token_shifts = excluded.token_shifts, revision = known.revision + 1,
            computed_at = clock_timestamp()
        """,
        [
            version_id,
            texts_digest,
            weights_digest,
            base_digest,
            base_name,
            meaning.texts.tolist(),
            meaning.tokens.tolist(),
        ],
    )
