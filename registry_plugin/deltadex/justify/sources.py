"""Texts about model versions that a justification may quote: descriptions, run parameters and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from deltadex.access import Person
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.versions import record_queries as training_records
from deltadex.versions.queries import by_ids
from deltadex.versions.record_queries import Record

#: Of a longer text only the start is read.
_MOST_CHARACTERS = 20_000


@dataclass(frozen=True)
class SourceText:
    """One text about a version. Anybody who may register a model may have written it.

    Attributes
    ----------
    name
        Version and part, such as `contract-drafter/1: parameters`.
    """

    name: str
    text: str


def source_texts(tx: Transaction, viewer: Person, version_ids: Sequence[int]) -> tuple[SourceText, ...]:
    """Return what is stored about versions, in their order; nothing of those that the viewer may not see."""
    rows, records = by_ids(tx, version_ids), training_records.records(tx, version_ids)
    seen = [rows[each] for each in version_ids if each in rows and viewer.sees(rows[each].registered.ref.name)]
    return tuple(text for row in seen for text in _texts(row, records.get(row.id, {})))


def _texts(row: VersionRow, record: Record) -> Iterator[SourceText]:
    parts = {
        "description": row.registered.description,
        "parameters": _lines(record.get("parameters", {})),
        "metrics": _lines({name: f"{value:g}" for name, value in row.provenance.metrics.items()}),
    }
    for part, text in parts.items():
        if text.strip():
            yield SourceText(f"{row.label}: {part}", text[:_MOST_CHARACTERS])


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{name} = {value}" for name, value in sorted(values.items()))
