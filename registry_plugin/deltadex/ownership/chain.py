"""Verification of the ownership history: its hash chain, and what follows from it."""

from __future__ import annotations

from deltadex.access import Person, Right
from deltadex.ownership import queries
from deltadex.reviews.chain import Chain, cut, texts_digest
from deltadex.store.database import Transaction


def verify(tx: Transaction, viewer: Person, *, holding: str | None = None) -> Chain:
    """Recompute all hashes of the history, and compare what is stated with it; see `deltadex.reviews.chain.Chain`.

    Parameters
    ----------
    holding
        An earlier head that the history must still contain: `number:hash`, or the hash alone.
    """
    viewer.require(Right.LOOK)
    number, previous, places = 0, "", dict[str, int]()
    fault: tuple[int | None, str] | None = None
    for *texts, hash_ in queries.chained(tx):
        number += 1
        if texts[0] != previous or texts_digest(*texts) != hash_:
            problem = f"Entry {texts[1]} of the ownership history was changed, or one before it is missing"
            fault = fault or (int(texts[1] or 0), problem)
        previous = hash_ or ""
        places[previous] = number
    if fault is None and (models := queries.contradicted(tx)):
        what = models[0] if viewer.sees(models[0]) else "a model"
        fault = 0, f"What is stated about {what} is not as the ownership history left it: one of both was changed"
    fault = fault or cut(holding, places)
    return Chain(number, f"{number}:{previous}" if number else "", *(fault or (None, "")))
