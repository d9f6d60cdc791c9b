"""Owner, tier, use, review date and attestation of registered models, as a viewer may see them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from deltadex.access import Person, Right
from deltadex.ownership import queries
from deltadex.ownership.attestation import Ownership, judged
from deltadex.ownership.facts import Fact, FactOrigin, OwnershipField, by_tags
from deltadex.ownership.queries import ModelRecord, OwnershipEntry
from deltadex.setting_groups import OwnershipSettings
from deltadex.settings import Settings
from deltadex.store import clock
from deltadex.store.database import Transaction


def of_model(tx: Transaction, viewer: Person, settings: Settings, name: str) -> Ownership | None:
    """Return all that is known of who answers for a registered model; None if it is hidden or has no version."""
    return next(iter(of_models(tx, viewer, settings, names=[name])), None)


def of_models(
    tx: Transaction, viewer: Person, settings: Settings, *, names: Collection[str] | None = None
) -> list[Ownership]:
    """Return what is known of all registered models that the viewer may see, or of some, by name."""
    viewer.require(Right.LOOK)
    today = clock.now(tx).date()
    rows = queries.records(tx, settings.registry, names=names)
    return [ownership_of(row, settings.ownership, today=today) for row in rows if viewer.sees(row.name)]


def history(tx: Transaction, viewer: Person, settings: Settings, name: str) -> list[OwnershipEntry]:
    """Return who changed and attested what about a registered model, newest first; empty for a hidden model."""
    viewer.require(Right.LOOK)
    return queries.history(tx, settings.registry, name) if viewer.sees(name) else []


def ownership_of(row: ModelRecord, settings: OwnershipSettings, *, today: date) -> Ownership:
    """Return what is known of a model: what people state wins over the tags."""
    facts = {field: _fact(row, field, settings) for field in OwnershipField}
    return judged(row.name, facts, row.attestation, settings=settings, today=today)


def _fact(row: ModelRecord, field: OwnershipField, settings: OwnershipSettings) -> Fact:
    if field in row.stated:
        return Fact(row.stated[field], FactOrigin.STATED)
    fact = by_tags(row.tags, field, settings)
    if field is OwnershipField.OWNER and not fact.value and row.version_owner:
        return Fact(row.version_owner[:200], FactOrigin.VERSION_TAG)
    return fact
