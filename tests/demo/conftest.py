from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deltadex.demo.company import Company, build_specification
from deltadex.demo.specification import TINY_COMPANY, Schedule, Shape, Specification

SCHEDULE = Schedule(steps=3, batch=2, length=16, learning_rate=1e-3)
KEPT = (
    "analytics-sql-writer/1",
    "contract-drafter/1",
    "product-catalog-json/1",
    "vendor-agreements/1",
    "search-query-rewriter/1",
    "help-centre-offline/1",
    "chat-greeter/1",
    "invoice-extractor/1",
)


def tiny_specification() -> Specification:
    """One version of each kind, of models that learn next to nothing in no time."""
    return replace(
        TINY_COMPANY,
        name="tiny",
        versions=tuple(version for version in TINY_COMPANY.versions if version.label in KEPT),
        base=SCHEDULE,
        legacy=SCHEDULE,
        adapter=SCHEDULE,
        full=SCHEDULE,
        shape=Shape(vocabulary=384, hidden_size=32, layers=2, heads=4, intermediate_size=64),
        synthetic=6,
    )


@pytest.fixture(scope="session")
def company_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("company")


@pytest.fixture(scope="session")
def tiny_company(company_folder: Path) -> Company:
    return build_specification(company_folder, tiny_specification())
