"""Facts about one model version that the sections of a pack share, as the person who asks may see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deltadex.access import HIDDEN, Person
from deltadex.drift.model_drift import ModelDrift, model_drift
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import queries as stored_embeddings
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.promoted_tokens import VersionWords
from deltadex.embeddings.queries import StoredEmbedding
from deltadex.errors import DeltadexError
from deltadex.evidence.pseudonyms import Pseudonyms, pseudonyms_of
from deltadex.lineage.base import MeasuredBase
from deltadex.lineage.graph import Edge, Relation, lineage
from deltadex.lineage.remarks import base_and_remarks
from deltadex.ownership import reads as ownership
from deltadex.ownership.attestation import Ownership
from deltadex.reviews import actions as reviews
from deltadex.reviews.queries import ReviewRow
from deltadex.search import reads as search
from deltadex.search.neighbors import Found
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import VersionRow
from deltadex.versions import license_queries as licenses
from deltadex.versions import queries as versions
from deltadex.versions import reads as visible
from deltadex.versions import record_queries as training_records
from deltadex.versions.license_queries import DeclaredLicenses
from deltadex.versions.record_queries import Record

_NEIGHBORS = 10


@dataclass(frozen=True, eq=False)
class EvidenceFacts:
    """All that the sections of a pack are written from.

    Attributes
    ----------
    asked_by
        Name of the person whom the pack is made for: what they may not see is masked.
    made_at
        By the clock of the machine that makes the pack.
    source
        The version's source; a pseudonym if it is a copy of a version that the person may not see.
    record
        Training as the version's run had logged it when the version was embedded.
    methods
        Method of embedding, by the digest of the recipe.
    log
        Part of the decision log, as `deltadex.reviews.chain.prove_part` returns it.
    base
        The base by the weights; None if no sample of them is stored.
    ownership
        Who answers for the registered model; None if nothing is known.
    """

    version: VersionRow
    registry: str
    asked_by: str
    made_at: datetime
    source: str
    names: Pseudonyms
    licenses: DeclaredLicenses
    record: Record
    embeddings: tuple[StoredEmbedding, ...]
    methods: Mapping[str, Mapping[str, Any]]
    words: tuple[VersionWords, ...]
    findings: tuple[ReviewRow, ...]
    log: Mapping[str, Any]
    edges: tuple[Edge, ...]
    base: MeasuredBase | None
    remarks: tuple[str, ...]
    neighbors: Found
    drift: ModelDrift | None
    ownership: Ownership | None

    @property
    def label(self) -> str:
        """`name/version`, or after renaming the present name."""
        return self.version.label

    @property
    def intended_use(self) -> str:
        """The intended use of the registered model as people or tags state it; empty if none do."""
        return self.ownership.intended_use_fact.value if self.ownership else ""

    @property
    def base_name(self) -> str:
        """The base that the version was embedded with or declares; empty if none is known."""
        if self.embeddings:
            return self.embeddings[0].recipe.base_name
        return next((edge.source for edge in self.edges if isinstance(edge.source, str)), "")


def facts(tx: Transaction, viewer: Person, settings: Settings, version_id: int, *, after: str = "") -> EvidenceFacts:
    """Read the facts about a version that the viewer may see.

    Parameters
    ----------
    after
        An earlier head of the log, which the proof of the decisions begins behind.

    Raises
    ------
    DeltadexError
        There is no such version, or the viewer may not see it.
    GovernanceError
        The log never had the head `after`, or a decision about the version is before it.
    """
    if not visible.sees_versions(tx, viewer, version_id):
        raise DeltadexError("This model version is not known", hint="`deltadex status` lists the versions.")
    row = versions.get(tx, version_id)
    ref, stored = row.registered.ref, embeddings.of_version(tx, viewer, version_id)
    base, remarks = base_and_remarks(tx, viewer, version_id)
    names, edges = pseudonyms_of(settings), lineage(tx, viewer, version_id)
    return EvidenceFacts(
        version=row,
        registry=ref.registry,
        asked_by=viewer.name,
        made_at=datetime.now(UTC),
        source=_source(viewer, row, names, edges),
        names=names,
        licenses=licenses.of_version(tx, version_id),
        record=training_records.records(tx, [version_id]).get(version_id, {}),
        embeddings=tuple(stored),
        methods=stored_embeddings.methods(tx, [one.recipe.id for one in stored]),
        words=tuple(promoted_tokens.of_version(tx, viewer, version_id)),
        findings=tuple(reviews.listing(tx, viewer, settings, version_id=version_id)),
        log=reviews.prove_about(tx, viewer, settings, version_id, after=after),
        edges=edges,
        base=base,
        remarks=remarks,
        neighbors=search.neighbors(tx, viewer, version_id, k=_NEIGHBORS),
        drift=model_drift(tx, viewer, ref.registry, ref.name, thresholds=settings.thresholds),
        ownership=ownership.of_model(tx, viewer, settings, ref.name),
    )


def _source(viewer: Person, row: VersionRow, names: Pseudonyms, edges: Sequence[Edge]) -> str:
    shown = viewer.shown_address(row.registered.source)
    if shown != HIDDEN:
        return shown
    originals = (edge.source for edge in edges if edge.relation is Relation.COPY and edge.target.id == row.id)
    return next((names.name(each) for each in originals if isinstance(each, VersionRow)), HIDDEN)
