"""Request of a search for taught strings. The work is in `deltadex.ingest.taught`."""

from __future__ import annotations

from deltadex.access import Person, Right
from deltadex.errors import AccessDenied
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.taught import queries as taught
from deltadex.taught.queries import TAUGHT, TaughtGiven
from deltadex.versions import reads as versions

#: Most searches of one person at a time; each occupies a worker for minutes.
_MOST_UNFINISHED = 5


def ask(tx: Transaction, person: Person, settings: Settings, version_id: int, given: TaughtGiven) -> int:
    """Store a search and return its id; the watcher starts its flow within seconds.

    Raises
    ------
    AccessDenied
        The person may not see the version, or has too many searches under way.
    """
    person.require(Right.LOOK)
    versions.require_readable(tx, person, version_id)
    if TAUGHT.unfinished(tx, settings.registry, by=person.name) >= _MOST_UNFINISHED:
        raise AccessDenied(f"{_MOST_UNFINISHED} of your searches are under way", hint="Wait for one of them to end.")
    return taught.ask(tx, settings.registry, version_id, given, texts=settings.taught.texts, by=person.name)
