"""Storage of embeddings and their findings: those of a shard in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deltadex.app import App
from deltadex.duplicates.regroup import regroup_around
from deltadex.embeddings import imprints, promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.findings import queries as findings
from deltadex.findings import rules
from deltadex.findings.adapter import judge_servable
from deltadex.findings.kinds import kinds_on_arrival
from deltadex.ingest.arrival import Arrival, Judgement
from deltadex.ingest.weight_readings import WeightReadings
from deltadex.lineage import sketch_queries as sketches
from deltadex.lineage.declared import contradicted
from deltadex.metrics import queries as metrics
from deltadex.reviews import actions as reviews
from deltadex.setting_groups import ThresholdSettings
from deltadex.store.database import Transaction
from deltadex.types import Embedding, Finding, FindingKind, Provenance, VersionRow
from deltadex.versions import record_queries as training_records
from deltadex.versions import shards


@dataclass(frozen=True, eq=False)
class Embedded:
    """A version whose embedding lies on its run, with all that is stored about it."""

    row: VersionRow
    embedding: Embedding
    base_name: str
    artifact_uri: str
    provenance: Provenance = field(default_factory=Provenance)
    weights: WeightReadings = field(default_factory=WeightReadings)
    #: Duration of each step so far, in seconds.
    seconds: Mapping[str, float] = field(default_factory=dict)


def store_and_find(app: App, arrived: Sequence[Embedded]) -> list[int]:
    """Store embeddings and their findings in one transaction; return the number of findings about each version.

    Recipes are locked during the transaction: if two duplicates are stored at the same time, the second sees the
    first.
    """
    settings = app.settings

    def store(tx: Transaction) -> list[int]:
        embeddings.lock(tx, [one.embedding for one in arrived])
        found = [_store_one(tx, one, thresholds=settings.thresholds) for one in arrived]
        regroup_around(tx, settings, {one.row.id for one in arrived})
        for name in {one.row.registered.ref.name for one in arrived}:
            reviews.follow(tx, settings, name=name)
        read_bytes = sum(one.provenance.weights_bytes or 0 for one in arrived)
        metrics.add_steps(tx, settings.registry, [one.seconds for one in arrived], read_bytes=read_bytes)
        return found

    return app.database.run(store)


def _store_one(tx: Transaction, one: Embedded, *, thresholds: ThresholdSettings) -> int:
    row, embedding = one.row, one.embedding
    for earlier in embeddings.supersede_other_methods(tx, row.id, embedding):
        # Those that `find` judges again keep their ids, and with them what people decided.
        findings.forget_recipe(tx, earlier, version_id=row.id, kept=kinds_on_arrival())
    too_weak = rules.judge_weak(row.id, embedding, thresholds=thresholds)
    recipe_id = embeddings.save(
        tx,
        row.id,
        embedding,
        base_name=one.base_name,
        artifact_uri=one.artifact_uri,
        is_weak=bool(too_weak),
        provenance=one.provenance,
    )
    promoted_tokens.save(tx, row.id, recipe_id, embedding)
    if any(one.provenance.logged.values()):
        training_records.save(tx, row.id, one.provenance.logged)
    shards.set_base(tx, row.id, one.base_name)
    if one.weights.imprint is not None:
        imprints.save(tx, row.id, recipe_id, embedding, one.weights.imprint)
    if one.weights.sketch is not None:
        sketches.save(tx, row.id, recipe_id, embedding, one.weights.sketch)
    findings.replace(
        tx, contradicted(tx, row), version_id=row.id, recipe_id=None, kinds=[FindingKind.LINEAGE_CONTRADICTED]
    )
    servable = judge_servable(row.id, one.weights.low_rank)
    findings.replace(tx, servable, version_id=row.id, recipe_id=None, kinds=[FindingKind.SERVABLE_AS_ADAPTER])
    return find(tx, row, recipe_id, too_weak=too_weak, thresholds=thresholds)


def find(
    tx: Transaction, row: VersionRow, recipe_id: int, *, too_weak: Sequence[Finding] = (), thresholds: ThresholdSettings
) -> int:
    """Store the findings of a stored embedding; return the number of findings about the version.

    Parameters
    ----------
    too_weak
        As `Arrival.too_weak`.
    """
    arrival = Arrival.read(tx, row, recipe_id, too_weak=too_weak, thresholds=thresholds)
    judgement = arrival.judge(thresholds=thresholds)
    _write(tx, arrival, judgement, recipe_id)
    return judgement.concerning(row.id)


def _write(tx: Transaction, arrival: Arrival, judgement: Judgement, recipe_id: int) -> None:
    # A weak version repeats no task. Its old finding goes here: a recipe with no other version has no round.
    kinds = (*kinds_on_arrival(), FindingKind.SAME_TASK) if arrival.too_weak else kinds_on_arrival()
    findings.replace(tx, judgement.own, version_id=arrival.version.id, recipe_id=recipe_id, kinds=kinds)
    for of_recipe, drifts in judgement.drifts.items():
        findings.replace_drift(tx, drifts, ref=arrival.version.registered.ref, recipe_id=of_recipe)
    findings.replace_of_versions(
        tx,
        [one for found in judgement.labels.values() for one in found],
        version_ids=judgement.labels.keys(),
        recipe_id=recipe_id,
        kinds=[FindingKind.LABEL_CONTRADICTED],
    )
