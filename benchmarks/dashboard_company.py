"""Synthetic findings, a layout and a clustering for the dashboard benchmark's company."""

from __future__ import annotations

import numpy as np
from pgvector import Vector

from benchmarks.store_company import REGISTRY, Company
from deltadex.duplicates.regroup import regroup
from deltadex.findings import queries as findings
from deltadex.findings.thresholds import calibration_for_arrivals
from deltadex.map import queries as layouts
from deltadex.reviews import actions as reviews
from deltadex.setting_groups import ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import Finding, FindingKind, FloatArray

_CLUSTERS = 30


def fill(company: Company, count: int) -> int:
    """Write findings of several kinds and the results of the flows; return the number of findings."""
    generator = np.random.default_rng(0)
    centres = generator.normal(scale=20, size=(_CLUSTERS, 2))
    labels = generator.integers(-1, _CLUSTERS, size=len(company.ids))
    coordinates = np.where(labels[:, None] < 0, 0, centres[labels]) + generator.normal(size=(len(labels), 2)) * 2
    new_findings = _findings(company, count, generator)
    with company.database.transaction() as tx:
        layouts.replace(tx, company.recipe_id, REGISTRY, ids=company.ids.tolist(), coordinates=coordinates)
        _cluster(tx, company, labels)
        calibration_for_arrivals(tx, company.recipe_id, REGISTRY, thresholds=ThresholdSettings())
        findings.replace(tx, new_findings, version_id=0, recipe_id=company.recipe_id, kinds=list(FindingKind))
        regroup(tx, Settings(registry=REGISTRY))
        reviews.follow(tx, Settings(registry=REGISTRY))
        tx.execute("update model_versions set tags = tags || jsonb_build_object('domain', 'd' || id % 20)")
    with company.database.connect() as connection:
        connection.commit()
        connection.autocommit = True
        connection.execute("vacuum analyze")
    return len(new_findings)


def _findings(company: Company, count: int, generator: np.random.Generator) -> list[Finding]:
    ids: FloatArray = company.ids
    pairs = generator.choice(len(ids) - 1, size=count, replace=False)
    new_findings = []
    for number, index in enumerate(pairs.tolist()):
        older, newer = int(ids[index]), int(ids[index + 1])
        if number % 10 < 4:
            new_findings.append(Finding(FindingKind.NEAR_DUPLICATE, newer, older, 0.95 + number % 50 / 1000, 0.95))
        elif number % 10 < 6:
            new_findings.append(Finding(FindingKind.DRIFT, newer, older, 0.5 + number % 50 / 100, 0.5))
        elif number % 10 < 9:
            new_findings.append(Finding(FindingKind.TOO_WEAK, newer, None, 0.001, 0.01))
        else:
            new_findings.append(
                Finding(FindingKind.WRONG_BASE, newer, evidence={"reason": "its vocabulary does not fit"})
            )
    return new_findings


def _cluster(tx: Transaction, company: Company, labels: np.ndarray) -> None:
    tx.execute(
        "insert into cluster_runs (recipe_id, registry, method, cut, found_at) values (%s, %s, '{}', 0.5, now())",
        [company.recipe_id, REGISTRY],
    )
    for number in range(_CLUSTERS):
        row = tx.execute(
            """
            insert into clusters (recipe_id, registry, number, label, centre) values (%s, %s, %s, %s, %s) returning id
            """,
            [company.recipe_id, REGISTRY, number, f"domain {number + 1}", Vector(company.vectors[number])],
        ).fetchone()
        tx.execute(
            """
            insert into cluster_assignments (recipe_id, model_version_id, cluster_id, strength)
            select %s, unnest(%s::bigint[]), %s, 0.5
            """,
            [company.recipe_id, company.ids[labels == number].tolist(), row[0] if row else 0],
        )
