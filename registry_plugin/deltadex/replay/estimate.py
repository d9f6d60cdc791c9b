"""Estimated time of a replay, for the person who asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.replay import queries as replays
from deltadex.settings import Settings
from deltadex.store.database import Transaction

#: Seconds of a replay by prompts and tokens per answer, over those of an embedding: measured with
#: SmolLM2-135M-Instruct on two cores (docs/reviews.md).
_EMBEDDINGS_PER_TOKEN = 0.03


@dataclass(frozen=True)
class TimeEstimate:
    """Time of a replay once a worker has taken it.

    Attributes
    ----------
    seconds
        None if nothing was measured yet.
    basis
        What the estimate rests on.
    """

    seconds: float | None
    basis: str

    def __str__(self) -> str:
        if self.seconds is None:
            return f"The time is not known: {self.basis}."
        return f"About {_duration(self.seconds)}, estimated from {self.basis}."


def estimate(tx: Transaction, settings: Settings, keeper_id: int, *, prompts: int) -> TimeEstimate:
    """Estimate the time of a replay: by earlier ones of the keeper's base, of any base, or by embeddings."""
    registry, tokens = settings.registry, prompts * settings.replay.max_new_tokens
    for base_of, of in ((keeper_id, "this base"), (None, "other bases")):
        if measured := replays.seconds_per_token(tx, registry, base_of=base_of):
            speed, count = measured
            return TimeEstimate(speed * tokens, f"{count} earlier replay{'s' * (count > 1)} of {of}")
    embedding = replays.seconds_per_embedding(tx, registry)
    if embedding is None:
        return TimeEstimate(None, "this registry has neither replays nor embeddings to go by")
    return TimeEstimate(
        embedding * _EMBEDDINGS_PER_TOKEN * tokens, "the time of an embedding here; an earlier replay would tell more"
    )


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "hour"), (60, "minute")):
        if seconds >= unit:
            count = round(seconds / unit)
            return f"{count} {name}{'s' * (count > 1)}"
    return f"{max(1, round(seconds))} s"
