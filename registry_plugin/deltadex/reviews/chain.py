"""Verification of the decision log: its hash chain, the findings that follow from it, and proofs of single entries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from deltadex.errors import GovernanceError
from deltadex.store.database import Transaction

#: What an entry's digest is over, in the order of `decision_digest` in 0007_proofs.sql; all texts, or null.
FIELDS = (
    "id", "review_id", "kind", "model_version_id", "subject", "other_id", "other_subject", "recipe", "measure",
    "threshold", "evidence", "action", "status", "reason", "text_digest", "reviewer", "identity", "rule", "assignee",
    "request_id", "decided_by", "decided_at", "former_hash",
)  # fmt: skip


@dataclass(frozen=True)
class Chain:
    """Result of verifying the log.

    Attributes
    ----------
    entries
        Number of entries.
    head
        `number:hash` of the last entry; empty if there are no entries. A copy kept elsewhere later proves that no
        earlier entry was changed, and that none was cut off.
    broken
        Id of the first entry that was changed; 0 if something else is wrong; None if all is as it was written.
    problem
        What is wrong; empty if nothing is.
    """

    entries: int
    head: str
    broken: int | None = None
    problem: str = ""


def texts_digest(*texts: str | None) -> str:
    """Return the hex SHA-256 of texts as one JSON list, as `texts_digest` in 0007_proofs.sql."""
    return hashlib.sha256(json.dumps(list(texts), ensure_ascii=False).encode()).hexdigest()


def verify(tx: Transaction, *, holding: str | None = None) -> Chain:
    """Recompute all digests and hashes of the log, and compare the findings with what the log says of them.

    Parameters
    ----------
    holding
        An earlier head that the log must still contain: `number:hash`, or the hash alone.
    """
    number, previous, places, erased = 0, "", dict[str, int](), _erased(tx)
    fault: tuple[int, str] | None = None
    with tx.cursor("chain") as cursor:
        for number, row in enumerate(cursor.execute(_ENTRIES), start=1):
            entry = _Entry(*row)
            fault = fault or entry.fault(previous, is_erased=entry.id in erased)
            previous = entry.hash
            places[entry.hash] = number
    head = f"{number}:{previous}" if number else ""
    fault = fault or next(_contradictions(tx), None) or cut(holding, places)
    return Chain(number, head, *(fault or (None, "")))


def entries(tx: Transaction) -> Iterator[dict[str, Any]]:
    """Yield all entries in the form in which `verify_entries` reads them: what each says, and its comment."""
    with tx.cursor("chain") as cursor:
        for row in cursor.execute(_ENTRIES):
            entry = _Entry(*row)
            text = None if entry.salt is None else {"salt": entry.salt, "comment": entry.comment}
            yield {"entry": entry.fields, "text": text}


def verify_entries(said: Iterable[Mapping[str, Any]]) -> tuple[Chain, list[str]]:
    """Compute the chain of entries that left the database, without one; return it with the hash of each entry.

    Raises
    ------
    GovernanceError
        An entry lacks something.
    """
    hashes, erased, silent, fault = list[str](), set[str](), list[str](), None
    for one in said:
        try:
            fields, text = one["entry"], one["text"]
            values = [fields[name] for name in FIELDS]
            if text is None:
                silent.append(str(fields["id"]))
            elif texts_digest(text["salt"], text["comment"]) != fields["text_digest"]:
                fault = fault or (int(fields["id"]), f"The comment of entry {fields['id']} of the log was changed")
        except (KeyError, TypeError, ValueError) as error:
            raise GovernanceError(f"An entry is incomplete: {error}", hint="Take another backup.") from error
        if fields["action"] == "erased":
            erased.add(str(fields["request_id"]))
        hashes.append(texts_digest(hashes[-1] if hashes else "", texts_digest(*values)))
    for number in silent:
        if number not in erased:
            text = f"The comment of entry {number} of the log was removed without an entry that says so"
            fault = fault or (int(number), text)
    head = f"{len(hashes)}:{hashes[-1]}" if hashes else ""
    return Chain(len(hashes), head, *(fault or (None, ""))), hashes


def prove(tx: Transaction, entry_id: int) -> dict[str, Any]:
    """Return all that is needed to prove one entry against a head: of all others only their digests.

    Raises
    ------
    GovernanceError
        There is no such entry.
    """
    before, after, found = list[str](), list[str](), None
    with tx.cursor("chain") as cursor:
        for row in cursor.execute(_ENTRIES):
            entry = _Entry(*row)
            if entry.id == entry_id:
                found = entry
            else:
                (before if found is None else after).append(entry.digest)
    if found is None:
        raise GovernanceError(f"There is no entry {entry_id} in the log", hint="`deltadex review log` shows them.")
    return {**found.disclosed(), "before": before, "after": after}


def prove_part(tx: Transaction, entry_ids: Collection[int], *, after: str = "") -> dict[str, Any]:
    """Return a part of the log that proves some entries against its head: of all others only their digests.

    Parameters
    ----------
    after
        An earlier head, `number:hash`, that the part begins behind; empty begins with the first entry.

    Raises
    ------
    GovernanceError
        The log never had this head, or one of the entries is before it.
    """
    number, _, known = after.rpartition(":")
    start, last, at = ({"number": 0, "hash": ""} if not after else None), "", 0
    entries, early = list[Any](), list[int]()
    with tx.cursor("chain") as cursor:
        for at, row in enumerate(cursor.execute(_ENTRIES), start=1):
            entry = _Entry(*row)
            last = entry.hash
            if start is not None:
                entries.append(entry.disclosed() if entry.id in entry_ids else entry.digest)
                continue
            early += [entry.id] * (entry.id in entry_ids)
            if known == entry.hash and number in ("", str(at)):
                start = {"number": at, "hash": entry.hash}
    if start is None:
        raise GovernanceError(f"The log has no head {after}", hint="`deltadex review verify` shows the head of now.")
    if early:
        raise GovernanceError(f"Entry {early[0]} is before the head {after}", hint="Begin behind an older one.")
    return {"start": start, "entries": entries, "head": f"{at}:{last}" if at else ""}


def verify_part(part: Mapping[str, Any]) -> str:
    """Return the head that a part of `prove_part` leads to. Needs no database.

    Raises
    ------
    GovernanceError
        The part is incomplete, or a comment is not the one of its entry.
    """
    try:
        heads = heads_of_part(part)
    except (KeyError, TypeError, ValueError) as error:
        raise GovernanceError(f"The part of the log is incomplete: {error!r}", hint="Ask for another one.") from error
    return heads[-1] if heads else ""


def heads_of_part(part: Mapping[str, Any]) -> list[str]:
    """Return each head that a verified part passes through, the one that it begins behind included."""
    number, previous = int(part["start"]["number"]), str(part["start"]["hash"])
    heads = [f"{number}:{previous}"] if number else []
    for one in part["entries"]:
        number, previous = number + 1, texts_digest(previous, one if isinstance(one, str) else _digest_of(one))
        heads.append(f"{number}:{previous}")
    return heads


def _digest_of(disclosed: Mapping[str, Any]) -> str:
    """Return the digest of an entry that is given in full, after a look at its comment."""
    fields, text = disclosed["entry"], disclosed["text"]
    if text is not None and texts_digest(text["salt"], text["comment"]) != fields["text_digest"]:
        raise GovernanceError("The comment is not the one of the entry", hint="Ask for another proof.")
    return texts_digest(*(fields[name] for name in FIELDS))


def verify_proof(proof: Mapping[str, Any]) -> str:
    """Return the head that a proof of `prove` leads to. Needs no database; compare the head with one that you noted.

    Raises
    ------
    GovernanceError
        The proof is incomplete, or its comment is not the one of the entry.
    """
    try:
        digests = [*proof["before"], _digest_of(proof), *proof["after"]]
    except (KeyError, TypeError) as error:
        raise GovernanceError(
            f"The proof is incomplete: {error}", hint="`deltadex review prove` writes one."
        ) from error
    previous = ""
    for digest in digests:
        previous = texts_digest(previous, digest)
    return f"{len(digests)}:{previous}"


class _Entry:
    """One row of `_ENTRIES`."""

    def __init__(
        self, previous: str, digest: str, hash_: str, salt: str | None, comment: str, is_same: bool, *values: str | None
    ) -> None:
        self.previous, self.digest, self.hash = previous, digest, hash_
        self.salt, self.comment, self.is_same = salt, comment, is_same
        self.fields = dict(zip(FIELDS, values, strict=True))

    @property
    def id(self) -> int:
        return int(self.fields["id"] or 0)

    def disclosed(self) -> dict[str, Any]:
        """Return the entry in full; the text is None if it was erased."""
        text = None if self.salt is None else {"salt": self.salt, "comment": self.comment}
        return {"entry": self.fields, "text": text}

    def fault(self, previous: str, *, is_erased: bool) -> tuple[int, str] | None:
        """Return the id and what is wrong with the entry, given the hash of the entry before; None if nothing is."""
        is_whole = (
            self.previous == previous
            and self.digest == texts_digest(*self.fields.values())
            and self.hash == texts_digest(previous, self.digest)
        )
        if not is_whole:
            return self.id, f"Entry {self.id} of the log was changed, or one before it is missing"
        if self.salt is not None and texts_digest(self.salt, self.comment) != self.fields["text_digest"]:
            return self.id, f"The comment of entry {self.id} of the log was changed"
        if self.salt is None and (self.comment or not is_erased):
            return self.id, f"The comment of entry {self.id} of the log was removed without an entry that says so"
        if not self.is_same:
            return self.id, f"Entry {self.id} of the log is about other versions than its finding"
        return None


def _erased(tx: Transaction) -> set[int]:
    """Return the ids of the entries whose text was erased."""
    return {row[0] for row in tx.execute("select request_id from decisions where action = 'erased'")}


def _contradictions(tx: Transaction) -> Iterator[tuple[int, str]]:
    """Yield the findings whose state is not what the log says."""
    for review_id, status, expected in tx.execute(_STATES):
        yield 0, f"Finding {review_id} ({status}) is not as the log left it ({expected}): one of both was changed"


def cut(holding: str | None, places: Mapping[str, int]) -> tuple[int, str] | None:
    """Return `Chain.broken` and `Chain.problem` if a head is missing; None if it is where it was.

    Parameters
    ----------
    holding
        `number:hash`, or the hash alone.
    places
        Number of each entry by its hash.
    """
    if not holding:
        return None
    number, _, known = holding.rpartition(":")
    if known not in places:
        return 0, f"The entry {known[:12]}… is missing"
    if number and number != str(places[known]):
        return 0, f"The entry {known[:12]}… was number {number} and is number {places[known]}"
    return None


#: An entry whose finding or version was exchanged has other ids or another subject than these.
_ENTRIES: LiteralString = """
    select entry.previous_hash, entry.entry_digest, entry.hash, entry.salt, entry.comment,
        (entry.kind, entry.model_version_id) = (reviews.kind, reviews.model_version_id)
            and entry.other_id is not distinct from reviews.other_id
            and starts_with(entry.subject, version.registry || ':')
            and entry.subject like format('%%/%s@%s', version.version, version.created_ms)
            and (other.id is null or entry.other_subject like format('%%/%s@%s', other.version, other.created_ms)),
        entry.id::text, entry.review_id::text, entry.kind, entry.model_version_id::text, entry.subject,
        entry.other_id::text, entry.other_subject, recipes.digest, entry.measure::text, entry.threshold::text,
        entry.evidence::text, entry.action, entry.status, entry.reason, entry.text_digest, entry.reviewer,
        entry.identity, entry.rule, entry.assignee, entry.request_id::text, entry.decided_by,
        to_char(entry.decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), entry.former_hash
    from decisions entry
    left join recipes on recipes.id = entry.recipe_id
    left join reviews on reviews.id = entry.review_id
    left join model_versions version on version.id = entry.model_version_id
    left join model_versions other on other.id = entry.other_id
    order by entry.id
"""

#: Findings that are not what their entries come to, by the rules of `record_decision` in 0007_proofs.sql.
_STATES: LiteralString = """
    with step as (
        select *, status in ('accepted', 'dismissed', 'fixed') as is_decided,
            status <> lag(status, 1, 'open') over (partition by review_id order by id) as is_change
        from decisions where action <> 'erased'
    ), said as (
        select review_id, max(id) as decision_id,
            (array_agg(status order by id desc))[1] as status,
            (array_agg(assignee order by id desc) filter (where action in ('assigned', 'released')))[1] as assignee,
            (array_agg(case action when 'requested' then id end order by id desc) filter (where action <> 'assigned')
                )[1] as request_id,
            (array_agg(case when is_decided then measure end order by id desc) filter (where is_change))[1] as measure,
            (array_agg(case when is_decided then coalesce(evidence ->> 'reason', '') end order by id desc)
                filter (where is_change))[1] as cause
        from step group by review_id
    )
    select reviews.id, reviews.status, coalesce(said.status, 'open')
    from reviews left join said on review_id = reviews.id
    where (reviews.status, reviews.assignee)
            is distinct from (coalesce(said.status, 'open'), coalesce(said.assignee, ''))
        or (reviews.decision_id, reviews.request_id, decided_measure, decided_cause)
            is distinct from (said.decision_id, said.request_id, said.measure, said.cause)
    order by reviews.id
"""
