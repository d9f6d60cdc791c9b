"""Judgement of a version whose embedding was just stored: the data it needs, and the resulting findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from deltadex.clusters.labels import Labelled, judge_labels, read_labels
from deltadex.drift.model_drift import FollowedModel, judge_model, read_model
from deltadex.duplicates.arrival import DuplicateCandidates, judge_duplicates, quantized_copies, read_rivals
from deltadex.findings.calibration import Calibration
from deltadex.findings.thresholds import calibration_for_arrivals
from deltadex.search.nearest import nearest
from deltadex.setting_groups import ThresholdSettings
from deltadex.store.database import Transaction
from deltadex.types import Finding, VersionRow


@dataclass(frozen=True)
class Judgement:
    """The findings that follow from an arrival.

    Attributes
    ----------
    own
        Findings about the version alone, and about pairs of it with others.
    drifts
        Drift findings of its registered model, by recipe.
    labels
        Label findings by version: the version itself and its nearest neighbours.
    """

    own: Sequence[Finding]
    drifts: Mapping[int, Sequence[Finding]]
    labels: Mapping[int, Sequence[Finding]]

    def concerning(self, version_id: int) -> int:
        """Return how many findings concern the version that arrived, as either side of a pair."""
        drifts = [one for found in self.drifts.values() for one in found]
        return (
            len(self.own)
            + sum(version_id in (one.version_id, one.other_id) for one in drifts)
            + len(self.labels[version_id])
        )


@dataclass(frozen=True)
class Arrival:
    """A version whose embedding was just stored, and the data needed to judge it.

    Attributes
    ----------
    too_weak
        The finding that its delta is too weak to compare, else empty. A weak version is compared with no other.
    rivals
        Candidate duplicates.
    model
        Embeddings of its registered model, from version to version.
    labels
        Domains declared around it and around its nearest neighbours.
    """

    version: VersionRow
    too_weak: Sequence[Finding]
    calibration: Calibration
    rivals: DuplicateCandidates
    model: FollowedModel
    labels: Sequence[Labelled]

    @classmethod
    def read(
        cls,
        tx: Transaction,
        version: VersionRow,
        recipe_id: int,
        *,
        too_weak: Sequence[Finding],
        thresholds: ThresholdSettings,
    ) -> Self:
        """Read the data needed to judge a version. One nearest-neighbour search covers most of it."""
        ref = version.registered.ref
        calibration = calibration_for_arrivals(tx, recipe_id, ref.registry, thresholds=thresholds)
        near = nearest(tx, version)
        rivals = (
            DuplicateCandidates() if too_weak else read_rivals(tx, version, recipe_id, near, calibration=calibration)
        )
        copies = [
            max(version, other, key=lambda row: row.registered.ref.age).id
            for other, _ in quantized_copies(version, rivals)
            if other.registered.ref.name == ref.name
        ]
        model = read_model(tx, ref, thresholds=thresholds, copies=copies)
        labels = read_labels(tx, version, near, recipe_id=recipe_id, thresholds=thresholds)
        return cls(version, too_weak, calibration, rivals, model, labels)

    def judge(self, *, thresholds: ThresholdSettings) -> Judgement:
        """Return the findings. Repeated tasks are judged separately, over all versions (`ingest.round`)."""
        duplicates = judge_duplicates(self.version, self.rivals, calibration=self.calibration)
        return Judgement(
            own=self.too_weak or duplicates,
            drifts=judge_model(self.model),
            labels=judge_labels(self.labels, thresholds=thresholds),
        )
