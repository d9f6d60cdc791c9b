"""Calibration of a recipe: computed, stored and read."""

from __future__ import annotations

import time

from deltadex.findings import calibration
from deltadex.findings import calibration_queries as calibration_sample
from deltadex.findings.calibration import Calibration, calibrate
from deltadex.settings import ThresholdSettings
from deltadex.store.database import Transaction


def calibration_of(tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings) -> Calibration:
    """Compute the thresholds of a recipe from its current versions. The order of their arrival does not matter."""
    default = calibration.default_calibration(thresholds)
    if not thresholds.calibrate:
        return default
    models = calibration_sample.any_versions(tx, recipe_id, registry)
    reseeds = calibration_sample.reseeds(tx, recipe_id, registry)
    return calibrate(models, reseeds, calibration_sample.steps(tx, recipe_id, registry), default=default)


def calibration_for_arrivals(
    tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings
) -> Calibration:
    """Return a recent result of `calibration_of`. Computing it for each arrival would take longer than all else."""
    setting = calibration.default_calibration(thresholds)
    if not thresholds.calibrate:
        return setting
    known = calibration_sample.remembered(tx, recipe_id, registry, setting=setting, lately=True)
    if known is None:
        started = time.perf_counter()
        known = calibration_of(tx, recipe_id, registry, thresholds=thresholds)
        seconds = time.perf_counter() - started
        calibration_sample.remember(tx, recipe_id, registry, known, setting=setting, seconds=seconds)
    return known


def stored_calibration(tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings) -> Calibration:
    """Return the calibration of the latest arrivals, however old; compute one if there is none."""
    setting = calibration.default_calibration(thresholds)
    known = calibration_sample.remembered(tx, recipe_id, registry, setting=setting) if thresholds.calibrate else setting
    return known or calibration_of(tx, recipe_id, registry, thresholds=thresholds)
