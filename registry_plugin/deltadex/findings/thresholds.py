"""Calibration of a recipe: computed, stored and read."""

from __future__ import annotations

import time

from deltadex.findings import calibration
from deltadex.findings import calibration_queries as calibration_sample
from deltadex.findings.calibration import Calibration, calibrate
from deltadex.setting_groups import ThresholdSettings
from deltadex.store.database import Transaction


def calibration_of(tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings) -> Calibration:
    """Compute the thresholds of a recipe from its current versions. The order of their arrival does not matter."""
    default = calibration.default_calibration(thresholds)
    if not thresholds.calibrate:
        return default
    models = calibration_sample.any_versions(tx, recipe_id, registry)
    reseeds = calibration_sample.reseeds(tx, recipe_id, registry)
    return calibrate(models, reseeds, calibration_sample.steps(tx, recipe_id, registry), default=default)


def recalibrate(tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings) -> Calibration:
    """Compute the thresholds of a recipe as `calibration_of` does, and store them for arrivals and groups."""
    started = time.perf_counter()
    found = calibration_of(tx, recipe_id, registry, thresholds=thresholds)
    seconds = time.perf_counter() - started
    setting = calibration.default_calibration(thresholds)
    calibration_sample.remember(tx, recipe_id, registry, found, setting=setting, seconds=seconds)
    return found


def calibration_for_arrivals(
    tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings
) -> Calibration:
    """Return a recent result of `calibration_of`. Computing it for each arrival would take longer than all else."""
    setting = calibration.default_calibration(thresholds)
    if not thresholds.calibrate:
        return setting
    known = calibration_sample.remembered(tx, recipe_id, registry, setting=setting, lately=True)
    return known or recalibrate(tx, recipe_id, registry, thresholds=thresholds)


def stored_calibration(tx: Transaction, recipe_id: int, registry: str, *, thresholds: ThresholdSettings) -> Calibration:
    """Return the calibration of the latest round or arrivals, however old; compute one if there is none."""
    setting = calibration.default_calibration(thresholds)
    known = calibration_sample.remembered(tx, recipe_id, registry, setting=setting) if thresholds.calibrate else setting
    return known or calibration_of(tx, recipe_id, registry, thresholds=thresholds)
