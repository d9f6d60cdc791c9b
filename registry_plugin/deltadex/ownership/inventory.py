"""Inventory of registered models: one row each, as a viewer may see it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime

from deltadex.access import Person, Right
from deltadex.ownership import inventory_queries, reads
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import UNDECIDED
from deltadex.settings import Settings
from deltadex.store import clock
from deltadex.store.database import Transaction


@dataclass(frozen=True)
class InventoryRow:
    """One registered model.

    Attributes
    ----------
    versions
        Number of versions that are not deleted.
    aliases
        Each with its version, such as `champion=3`.
    tier, owner, intended_use, review_by
        Empty or None if unknown; `…_from` says where a fact comes from.
    attestation
        Its state; `attested_by`, `attested_at` and `attested_until` are of the latest one.
    open_findings
        Undecided findings about any of its versions; `overdue_findings` are past their due date.
    next_due
        Earliest due date among them.
    bases
        Bases of its versions, as declared or embedded with.
    licenses
        Licences of its versions, as tags or model cards declare them.
    base_licenses
        Licences of the bases, as their model cards declare them; of versions that were read.
    """

    model: str
    versions: int
    newest: int
    states: str
    aliases: str
    owner: str
    owner_from: str
    tier: str
    tier_from: str
    intended_use: str
    intended_use_from: str
    review_by: date | None
    attestation: str
    attested_by: str
    attested_at: datetime | None
    attested_until: date | None
    open_findings: int
    overdue_findings: int
    next_due: datetime | None
    bases: str
    licenses: str
    base_licenses: str
    registered_first: datetime
    registered_last: datetime

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(field.name for field in fields(cls))

    def values(self) -> dict[str, str | int | None]:
        """Return the row by column, with dates as text, and None for what is unknown."""
        return {
            name: value.isoformat() if isinstance(value, date) else None if value == "" else value
            for name, value in asdict(self).items()
        }


def inventory(tx: Transaction, viewer: Person, settings: Settings) -> list[InventoryRow]:
    """Return all registered models that the viewer may see, by name."""
    viewer.require(Right.LOOK)
    known = {one.model: one for one in reads.of_models(tx, viewer, settings)}
    now = clock.now(tx)
    opened, overdue, due = Counter[str](), Counter[str](), dict[str, datetime]()
    for row in reviews.listing(tx, viewer, settings, statuses=UNDECIDED):
        for model in {version.registered.ref.name for version in row.versions}:
            opened[model] += 1
            overdue[model] += row.due_at < now
            due[model] = min(due.get(model, row.due_at), row.due_at)
    return [
        InventoryRow(
            model=model,
            versions=one.versions,
            newest=one.newest,
            states=one.states,
            aliases=one.aliases,
            owner=about.owner,
            owner_from=about.owner_fact.origin.value,
            tier=about.tier_fact.value,
            tier_from=about.tier_fact.origin.value,
            intended_use=about.intended_use,
            intended_use_from=about.intended_use_fact.origin.value,
            review_by=about.review_by,
            attestation=about.state.value,
            attested_by=about.attestation.by if about.attestation else "",
            attested_at=about.attestation.at if about.attestation else None,
            attested_until=about.until,
            open_findings=opened[model],
            overdue_findings=overdue[model],
            next_due=due.get(model),
            bases=", ".join(sorted({*map(viewer.shown_address, one.bases)})),
            licenses=one.licenses,
            base_licenses=one.base_licenses,
            registered_first=one.registered_first,
            registered_last=one.registered_last,
        )
        for one in inventory_queries.versions_by_model(tx, settings.registry)
        if (about := known.get(model := one.model))
    ]
