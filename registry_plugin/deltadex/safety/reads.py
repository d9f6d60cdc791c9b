"""Safety measurements as a viewer may see them, judged by the threshold of today."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.access import Person
from deltadex.asked.queries import AskedState
from deltadex.errors import StoreError
from deltadex.safety import queries as safety
from deltadex.safety.judge import SafetyThreshold, SafetyVerdict, calibrated, verdict_of
from deltadex.safety.measure import SafetyBase, SafetyReading, TraitShift, trait_shifts
from deltadex.safety.queries import SafetyRow
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.versions.reads import sees_versions


@dataclass(frozen=True)
class MeasuredSafety:
    """A measurement with all that is said about it.

    Attributes
    ----------
    base
        The base, measured along its own direction.
    traits
        Shift along each trait that the base has.
    trait_aurocs
        AUROC of each trait's own prompts in the base; below the least, the base has none and nothing is said of it.
    """

    row: SafetyRow
    reading: SafetyReading
    base: SafetyReading
    verdict: SafetyVerdict
    traits: tuple[TraitShift, ...]
    trait_aurocs: dict[str, float]


def request(tx: Transaction, viewer: Person, settings: Settings, request_id: int) -> SafetyRow:
    """Return one measurement.

    Raises
    ------
    StoreError
        There is none with this id, or the viewer may not see its version.
    """
    row = safety.get(tx, settings.registry, request_id)
    if not sees_versions(tx, viewer, row.version_id):
        raise StoreError(
            f"There is no safety measurement with id {request_id}", hint="Check that the link is complete."
        )
    return row


def latest(tx: Transaction, viewer: Person, version_id: int) -> SafetyRow | None:
    """Return the latest measurement of a version in any state; None if there is none that the viewer may see."""
    return safety.latest(tx, version_id) if sees_versions(tx, viewer, version_id) else None


def measured(tx: Transaction, viewer: Person, settings: Settings, version_id: int) -> MeasuredSafety | None:
    """Return the latest finished measurement of a version; None if there is none that the viewer may see."""
    if not sees_versions(tx, viewer, version_id):
        return None
    row = safety.latest(tx, version_id, states=[AskedState.DONE])
    if row is None or row.reading is None or row.base_digest is None or row.probes_digest is None:
        return None
    base = safety.base(tx, row.base_digest, row.probes_digest)
    if base is None:
        return None
    readings = safety.current(tx, settings.registry, row.base_digest, row.probes_digest)
    threshold = threshold_for(version_id, readings, base, settings)
    verdict = verdict_of(row.reading, base.reading, lacks=base.lacks, threshold=threshold)
    shifts = trait_shifts(row.reading, base.reading)
    return MeasuredSafety(row, row.reading, base.reading, verdict, shifts, dict(base.trait_aurocs))


def threshold_for(
    version_id: int, readings: dict[int, SafetyReading], base: SafetyBase, settings: Settings
) -> SafetyThreshold:
    """Return the threshold for a version, from the readings of all versions of its base."""
    others = [] if base.lacks else [share_of(each, base) for other, each in readings.items() if other != version_id]
    return calibrated(others, default=settings.safety.least_kept, calibrate=settings.thresholds.calibrate)


def share_of(reading: SafetyReading, base: SafetyBase) -> float:
    """Return what a version keeps, without an interval."""
    return reading.gap / base.reading.gap if base.reading.gap else 0.0
