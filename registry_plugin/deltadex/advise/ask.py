"""Request of an advice. The work is in `deltadex.ingest.advise`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deltadex.access import Person, Right
from deltadex.advise import queries as advice
from deltadex.advise.estimate import work_of
from deltadex.advise.folds import FoldedTask
from deltadex.advise.queries import ADVICE, AdviceOrder
from deltadex.advise.selectors import SELECTORS
from deltadex.engine.examples import Example
from deltadex.errors import AccessDenied, DeltadexError
from deltadex.find.search import known_base
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.versions import reads as versions

#: Most pieces of advice of one person at a time; each occupies a worker for minutes.
_MOST_UNFINISHED = 2
_MOST_CANDIDATES = 10


def checked(settings: Settings, wanted: AdviceOrder, examples: Sequence[Example]) -> AdviceOrder:
    """Return a request with its work, for distinct examples.

    Raises
    ------
    DeltadexError
        The selector is not known, there are too many candidates, or there are too few different examples.
    """
    if wanted.selector not in SELECTORS:
        raise DeltadexError(f"{wanted.selector!r} is not a selector", hint=f"There are: {', '.join(SELECTORS)}.")
    if len(wanted.candidates) > _MOST_CANDIDATES:
        raise DeltadexError(f"More than {_MOST_CANDIDATES} candidates", hint="Name those that are nearest.")
    count = len(FoldedTask.of(examples, folds=settings.advise.folds).examples)
    work = work_of(settings, count, shots=wanted.shots, candidates=len(wanted.candidates), is_trained=wanted.is_trained)
    return replace(wanted, work=work)


def ask(
    tx: Transaction,
    person: Person,
    settings: Settings,
    base_name: str,
    examples: Sequence[Example],
    wanted: AdviceOrder,
) -> int:
    """Store a request and return its id; the watcher starts its flow within seconds.

    Raises
    ------
    AccessDenied
        The person may not see one of the candidates, or has too many requests under way.
    BaseNotFound
        The base is not known.
    """
    person.require(Right.LOOK)
    known_base(tx, person, settings, base_name)
    wanted = checked(settings, wanted, examples)
    if not versions.sees_versions(tx, person, *wanted.candidates):
        raise AccessDenied("These candidates are not known", hint="`deltadex status` lists the versions.")
    if ADVICE.unfinished(tx, settings.registry, by=person.name) >= _MOST_UNFINISHED:
        raise AccessDenied(f"{_MOST_UNFINISHED} of your requests are under way", hint="Wait for one of them to end.")
    return advice.ask(tx, settings.registry, base_name, examples, wanted, sees=person.models, by=person.name)
