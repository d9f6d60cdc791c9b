"""Estimated time of a search for taught strings, for the person who asks for it."""

from __future__ import annotations

from deltadex.replay.estimate import TimeEstimate
from deltadex.replay.queries import seconds_per_embedding
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.taught import queries as taught

#: Seconds of a text over those of an embedding: a guess, until there is a search to go by.
_EMBEDDINGS_PER_TEXT = 0.1


def estimate(tx: Transaction, settings: Settings, version_id: int) -> TimeEstimate:
    """Estimate the time: by earlier searches of the version's base, of any base, or by embeddings."""
    registry, texts = settings.registry, settings.taught.texts
    for base_of, of in ((version_id, "this base"), (None, "other bases")):
        if measured := taught.seconds_per_text(tx, registry, base_of=base_of):
            speed, count = measured
            return TimeEstimate(speed * texts, f"{count} earlier search{'es' * (count > 1)} of {of}")
    embedding = seconds_per_embedding(tx, registry)
    if embedding is None:
        return TimeEstimate(None, "this registry has neither such searches nor embeddings to go by")
    return TimeEstimate(
        embedding * _EMBEDDINGS_PER_TEXT * texts, "the time of an embedding here; an earlier search would tell more"
    )
