"""Source of a pack's sections: the shared facts, and JSON as packs write it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from deltadex.access import Person
from deltadex.evidence.facts import EvidenceFacts
from deltadex.settings import Settings
from deltadex.store.database import Transaction


@dataclass(frozen=True, eq=False)
class PackSource:
    """The shared facts, and for a section with facts of its own the transaction that it may read them in.

    Such a section reads by a function `(tx, viewer, …)`, which masks what the viewer may not see.
    """

    tx: Transaction
    viewer: Person
    settings: Settings
    facts: EvidenceFacts


def as_json(value: object) -> str:
    """Return a value as the JSON of a pack's file: indented, and with any text as it is."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
