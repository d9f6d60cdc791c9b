"""Work and estimated time of an advice, for the person who asks for it."""

from __future__ import annotations

from deltadex.advise import queries as advice
from deltadex.replay import queries as replays
from deltadex.replay.estimate import TimeEstimate
from deltadex.settings import Settings
from deltadex.store.database import Transaction

#: An example that is trained on is read forward and backward.
_READINGS_PER_STEP = 3
#: Examples per training step, in an advice and in a search.
BATCH = 4
_SEARCH_BATCH = 8
#: Readings of an example in the time of an embedding, roughly: an embedding reads some twenty probes twice.
_READINGS_PER_EMBEDDING = 40


def work_of(settings: Settings, examples: int, *, shots: int, candidates: int, is_trained: bool) -> float:
    """Return the work of an advice as a number of readings of one example.

    Parameters
    ----------
    candidates
        Number of named ones; 0 to find them by a search, which trains.
    """
    advise = settings.advise
    passes = 1 + (shots + 1) + (candidates or advise.candidates) + is_trained
    trainings = is_trained * advise.folds * advise.steps * BATCH
    search = 0 if candidates else settings.find.steps * _SEARCH_BATCH
    return float(examples * passes + _READINGS_PER_STEP * (trainings + search))


def estimate(tx: Transaction, settings: Settings, base_name: str, work: float) -> TimeEstimate:
    """Estimate the time of an advice: by earlier ones of the base, of any base, or by embeddings."""
    for name, of in ((base_name, "this base"), (None, "other bases")):
        if measured := advice.seconds_per_reading(tx, settings.registry, base_name=name):
            speed, count = measured
            return TimeEstimate(speed * work, f"{count} earlier piece{'s' * (count > 1)} of advice on {of}")
    embedding = replays.seconds_per_embedding(tx, settings.registry)
    if embedding is None:
        return TimeEstimate(None, "this registry has neither advice nor embeddings to go by")
    return TimeEstimate(
        embedding * work / _READINGS_PER_EMBEDDING, "the time of an embedding here; earlier advice would tell more"
    )
