"""Request of a safety measurement, and its cost. The work is in `deltadex.ingest.safety`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from deltadex.access import Person, Right
from deltadex.errors import AccessDenied
from deltadex.replay import queries as replays
from deltadex.safety import queries as safety
from deltadex.safety.measure import DEPTH
from deltadex.safety.probes import safety_probes
from deltadex.safety.queries import SAFETY
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.versions import reads as versions

#: Most measurements of one person at a time; each occupies a worker.
_MOST_UNFINISHED = 20
#: Seconds per prompt over those of an embedding, which reads five probes. Only until something was measured.
_EMBEDDINGS_PER_PROMPT = 0.2
#: Name of the person who asks where the setting asks for every version.
BY_SETTING = "the setting"


@dataclass(frozen=True)
class SafetyCost:
    """Cost of a measurement.

    Attributes
    ----------
    prompts
        Prompts that the finetune reads.
    base_prompts
        Prompts that its base reads, once for all its finetunes.
    seconds
        Estimated time once a worker has taken it; None if nothing was measured yet.
    basis
        Origin of the estimate.
    """

    prompts: int
    base_prompts: int
    seconds: float | None
    basis: str

    def __str__(self) -> str:
        said = f"It reads {self.prompts} short prompts, and the base {self.base_prompts}, once for all its finetunes."
        if self.seconds is None:
            return f"{said} The time is not known: {self.basis}."
        return f"{said} About {max(1, round(self.seconds)):,} s, estimated from {self.basis}."


def recipe_digest() -> str:
    """Return the hex SHA-256 over prompts and depth: only measurements with an equal one compare."""
    return hashlib.sha256(f"{safety_probes().digest} {DEPTH}".encode()).hexdigest()


def ask(tx: Transaction, person: Person, settings: Settings, version_id: int) -> int:
    """Store a request and return its id; the watcher starts its flow within seconds.

    Raises
    ------
    AccessDenied
        The person may not see the version, or has too many measurements under way.
    """
    person.require(Right.LOOK)
    versions.require_readable(tx, person, version_id)
    if SAFETY.unfinished(tx, settings.registry, by=person.name) >= _MOST_UNFINISHED:
        raise AccessDenied(
            f"{_MOST_UNFINISHED} of your measurements are under way", hint="Wait for one of them to end."
        )
    return safety.ask(tx, settings.registry, version_id, probes=recipe_digest(), by=person.name)


def cost(tx: Transaction, settings: Settings) -> SafetyCost:
    """Estimate the cost of a measurement: by earlier ones, or by embeddings."""
    probes = safety_probes()
    prompts, of_base = len(probes.of_all), len(probes.of_all) + len(probes.of_base)
    if measured := safety.seconds_per_measurement(tx, settings.registry):
        return SafetyCost(prompts, of_base, measured[0], f"the {measured[1]} latest here")
    embedding = replays.seconds_per_embedding(tx, settings.registry)
    if embedding is None:
        return SafetyCost(prompts, of_base, None, "this registry has neither measurements nor embeddings to go by")
    seconds = embedding * _EMBEDDINGS_PER_PROMPT * (prompts + of_base)
    return SafetyCost(prompts, of_base, seconds, "the time of an embedding here, with the base")
