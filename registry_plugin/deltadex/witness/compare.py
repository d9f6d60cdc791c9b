"""Comparison of the log and the ownership history with the heads that witnesses hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from deltadex.errors import DeltadexError, WitnessError
from deltadex.store.database import Transaction
from deltadex.witness import queries
from deltadex.witness.head import Held, LogHead
from deltadex.witness.kinds import Witness
from deltadex.witness.queries import HashedEntries, HashedTable, WitnessState
from deltadex.witness.time_stamp import TimeStampWitness

#: Name under which heads are compared that are known by a time stamp kept in the database.
STAMPED = "time stamps in the database"

#: Errors of witnesses: besides our own, errors of libraries over odd addresses and certificates. None may stop a
#: round of the watcher, or the question to the next witness.
FAILURES = (DeltadexError, OSError, ValueError)


@dataclass(frozen=True)
class Answers:
    """Answers of the witnesses, read before the log is.

    Attributes
    ----------
    held
        What each witness holds.
    errors
        Why a witness that can be asked did not answer.
    published
        What had been published to each witness before it was asked.
    authorities
        Authorities of time stamps, which verify the stamps of heads.
    """

    held: Mapping[str, Held]
    errors: Mapping[str, str]
    published: Mapping[str, WitnessState]
    authorities: Sequence[TimeStampWitness] = ()


@dataclass(frozen=True)
class HeadComparison:
    """Result of the comparison with one witness.

    Attributes
    ----------
    witness
        Name of the witness.
    heads
        Number of heads that it holds.
    agreed
        The longest head before any that the log does not contain; None if there is none.
    denied
        A head that the log does not contain; None if it contains all.
    problem
        How log or ownership history differ; empty if they do not.
    is_shorter
        True if these only end before heads that the witness holds, as a backup of an earlier day does.
    error
        Why the witness did not answer; empty if it did.
    remark
        What is odd about the witness itself: unreadable records, or a wrong time stamp.
    """

    witness: str
    heads: int = 0
    agreed: LogHead | None = None
    denied: LogHead | None = None
    problem: str = ""
    is_shorter: bool = False
    error: str = ""
    remark: str = ""


def ask(witnesses: Sequence[Witness], registry: str, *, published: Mapping[str, WitnessState]) -> Answers:
    """Read the heads of all witnesses that can be asked. No transaction should be open during that.

    Parameters
    ----------
    published
        States of the witnesses, read before: what is published from now on may be missing in the answers.
    """
    held: dict[str, Held] = {}
    errors: dict[str, str] = {}
    for witness in witnesses:
        try:
            answer = witness.held(registry)
        except FAILURES as error:
            errors[witness.name] = failure_text(error)
            continue
        if answer is not None:
            held[witness.name] = answer
    return Answers(held, errors, published, [one for one in witnesses if isinstance(one, TimeStampWitness)])


def failure_text(error: Exception) -> str:
    """Return message and hint of a witness's failure."""
    if isinstance(error, DeltadexError):
        return f"{error.message} {error.hint}".strip()
    return f"{type(error).__name__}: {error}"


def compare(tx: Transaction, registry: str, answers: Answers) -> list[HeadComparison]:
    """Compare the log with what the witnesses hold: a cut log has fewer entries, a rewritten one other hashes.

    The ownership history is compared likewise, and a witness with what was last published to it, which it should still
    hold.
    """
    held = dict(answers.held)
    if stamped := queries.stamped(tx, registry):
        held[STAMPED] = Held(tuple(stamped))
    heads = [head for one in held.values() for head in one.heads]
    log = queries.entries_at(tx, HashedTable.LOG, {head.entries for head in heads})
    owned = queries.entries_at(tx, HashedTable.OWNERSHIP, {head.entries for head in _of_ownership(heads)})
    return compare_hashes(log, replace(answers, held=held), owned=owned)


def compare_hashes(log: HashedEntries, answers: Answers, *, owned: HashedEntries | None = None) -> list[HeadComparison]:
    """Compare a log with what the witnesses hold, and the ownership history unless it is None."""
    found = [
        _comparison(name, one, log, owned, state=answers.published.get(name), authorities=answers.authorities)
        for name, one in answers.held.items()
    ]
    return found + [HeadComparison(name, error=error) for name, error in answers.errors.items()]


def _of_ownership(heads: Iterable[LogHead]) -> list[LogHead]:
    return [owned for head in heads if (owned := head.of_ownership)]


@dataclass(frozen=True)
class _Difference:
    """See the attributes of `HeadComparison` with the same names."""

    agreed: LogHead | None
    denied: LogHead | None
    problem: str
    is_shorter: bool


def _comparison(
    name: str, held: Held, log: HashedEntries, owned: HashedEntries | None, *, state: WitnessState | None,
    authorities: Sequence[TimeStampWitness],
) -> HeadComparison:  # fmt: skip
    heads = sorted(held.heads, key=lambda head: (head.entries, head.at))
    found = _difference("log", heads, log, authorities)
    differing = [found] if found.problem else []
    if owned is not None:
        of_ownership = sorted(_of_ownership(heads), key=lambda head: (head.entries, head.at))
        history = _difference("ownership history", of_ownership, owned, ())
        differing += [history] if history.problem else []
    return HeadComparison(
        name, len(heads), found.agreed, found.denied,
        ". ".join(one.problem for one in differing) or _lost(heads, state),
        is_shorter=bool(differing) and all(one.is_shorter for one in differing),
        remark=_remark(held, heads, authorities),
    )  # fmt: skip


def _difference(
    what: str, heads: Sequence[LogHead], entries: HashedEntries, authorities: Sequence[TimeStampWitness]
) -> _Difference:
    """Return how entries differ from heads, which are in the order of their numbers."""
    denied = [head for head in heads if head.hash != entries.hashes.get(head.entries)]
    # Longer ones were published from a log that was changed already.
    reach = denied[0].entries if denied else entries.count + 1
    agreed = next((head for head in reversed(heads) if head.entries < reach), None)
    # The longest of a cut log says how much is missing; the first of a rewritten one where it begins.
    worst = next((head for head in denied if head.entries <= entries.count), denied[-1] if denied else None)
    problem = _problem(what, worst, len(denied), entries.count, agreed, authorities) if worst else ""
    return _Difference(agreed, worst, problem, is_shorter=reach > entries.count and worst is not None)


def _problem(
    what: str, head: LogHead, count: int, length: int, agreed: LogHead | None, authorities: Sequence[TimeStampWitness]
) -> str:
    since = f"they agree up to entry {agreed.entries} of {_time(agreed.at)}" if agreed else "they agree on no head"
    more = f" and {count - 1} more" if count > 1 else ""
    vouched = "".join(f", vouched for by {name} at {_time(at)}" for name, at in _vouched(head, authorities))
    if head.entries > length:
        how = f"was cut: it has {length} entries, and the witness"
    else:
        how = f"was rewritten: its entry {head.entries} is another one. The witness"
    published = f"holds {head.entries}:{head.hash[:12]}…{more}, published at {_time(head.at)}{vouched}"
    return f"The {what} {how} {published}; {since}"


def _lost(heads: Sequence[LogHead], state: WitnessState | None) -> str:
    """Return that a witness lacks the head that was last published to it; empty if it has it."""
    if state is None or state.hash is None or any(head.place == (state.entries, state.hash) for head in heads):
        return ""
    at = _time(state.published_at) if state.published_at else "an unknown time"
    return (
        f"The witness no longer holds head {state.entries}:{state.hash[:12]}… that was published to it at {at}: "
        "the witness was changed"
    )


def _remark(held: Held, heads: Sequence[LogHead], authorities: Sequence[TimeStampWitness]) -> str:
    """Return what is odd about a witness: records that are no heads, and a last time stamp that does not hold."""
    unreadable = f"{held.unreadable} of its records can't be read" if held.unreadable else ""
    stamped = [head for head in heads if head.stamps][-1:]
    wrong = [text for head in stamped for text in _wrong_stamps(head, authorities)]
    return "; ".join(filter(None, [unreadable, *wrong]))


def _wrong_stamps(head: LogHead, authorities: Sequence[TimeStampWitness]) -> list[str]:
    found = []
    for authority in authorities:
        try:
            authority.time_of(head)
        except WitnessError as error:
            found.append(error.message)
    return found


def _vouched(head: LogHead, authorities: Sequence[TimeStampWitness]) -> list[tuple[str, datetime]]:
    found = []
    for authority in authorities:
        try:
            at = authority.time_of(head)
        except WitnessError:
            continue
        if at is not None:
            found.append((authority.name, at))
    return found


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
