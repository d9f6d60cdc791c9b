from collections import Counter

import pytest

from deltadex.demo import Size
from deltadex.demo.corpus import DOMAINS, PARTS
from deltadex.demo.specification import BASE, GRID, LEGACY_BASE, LICENSE, Method, Specification, specification
from deltadex.findings.calibration import FEWEST_RESEEDS, FEWEST_TRAININGS

COMPANY = specification(Size.COMPANY)


@pytest.fixture(params=Size, ids=str)
def company(request: pytest.FixtureRequest) -> Specification:
    return specification(request.param)


def test_three_teams_in_each_of_five_domains_have_adapters_of_disjoint_parts() -> None:
    assert {version for version in COMPANY.versions if version in GRID} == set(GRID)
    assert all(version.method is Method.ADAPTER for version in GRID)
    assert list(Counter(version.domain for version in GRID).values()) == [3] * 5
    assert len({(version.domain, version.part) for version in GRID}) == 15


def test_there_are_full_finetunes() -> None:
    fulls = [each for each in COMPANY.versions if each.method is Method.FULL and each.declared_base == BASE]
    assert len(fulls) >= 2


def test_an_exact_copy_belongs_to_another_team() -> None:
    by_label = {version.label: version for version in COMPANY.versions}
    [copy] = [version for version in COMPANY.versions if version.copy_of and not version.truncated]
    assert copy.team != by_label[copy.copy_of or ""].team


def test_a_near_copy_is_trained_on_the_same_data() -> None:
    by_label = {version.label: version for version in COMPANY.versions}
    copy, original = by_label["robotics-copilot/1"], by_label["firmware-copilot/1"]
    assert (copy.domain, copy.part, copy.method) == (original.domain, original.part, original.method)
    assert copy.team != original.team


def test_five_models_have_three_to_six_versions() -> None:
    counts = Counter(version.name for version in COMPANY.versions)
    assert sorted(count for count in counts.values() if count > 1) == [3, 3, 3, 3, 4]


def test_there_are_enough_reseeds_to_calibrate_the_near_duplicate_threshold() -> None:
    trained = Counter(
        (version.domain, version.part)
        for version in COMPANY.versions
        if version.method is Method.ADAPTER and not (version.copy_of or version.learning_rate or version.init)
    )
    assert sum(count > 1 for count in trained.values()) >= FEWEST_TRAININGS
    assert sum(count * (count - 1) // 2 for count in trained.values()) >= FEWEST_RESEEDS


def test_there_is_a_version_for_each_other_kind_of_finding() -> None:
    versions = COMPANY.versions
    assert [version.label for version in versions if (version.learning_rate or 1) < 1e-5] == ["ticket-summaries/1"]
    assert [version.label for version in versions if version.method is Method.MERGED] == ["help-centre-offline/1"]
    assert [version.label for version in versions if version.init] == ["chat-greeter/1"]
    assert [version.label for version in versions if version.license not in (None, LICENSE)] == [
        "notebook-completion/1"
    ]


def test_the_alias_ends_on_the_newest_version_that_was_released() -> None:
    released = {version.name: version.version for version in COMPANY.versions if version.champion}
    assert released == {
        "analytics-sql-writer": 3,
        "contract-drafter": 1,
        "firmware-copilot": 3,
        "help-centre-writer": 3,
        "internal-tools-copilot": 3,
        "storefront-localizer": 3,
    }


def test_one_model_of_four_versions_changes_its_domain_once_and_does_not_say_so() -> None:
    versions = [version for version in COMPANY.versions if version.name == "storefront-localizer"]
    assert [version.version for version in versions] == [1, 2, 3, 4]
    assert len({version.stated_domain or version.domain for version in versions}) == 1
    assert list(Counter(version.domain for version in versions).values()) == [3, 1]


def test_one_version_declares_a_wrong_base_and_one_is_truncated() -> None:
    assert [version.declared_base for version in COMPANY.versions].count(LEGACY_BASE) == 1
    assert [version.truncated for version in COMPANY.versions].count(True) == 1
    assert COMPANY.legacy is not None


def test_only_the_large_company_has_synthetic_versions_and_hundreds_of_them() -> None:
    assert [specification(size).synthetic for size in (Size.SMALL, Size.COMPANY)] == [0, 0]
    assert specification(Size.LARGE).synthetic >= 200


def test_copies_follow_their_originals_and_versions_of_a_model_each_other(company: Specification) -> None:
    labels = [version.label for version in company.versions]
    for place, version in enumerate(company.versions):
        assert version.copy_of is None or version.copy_of in labels[:place]
        assert version.version == 1 or f"{version.name}/{version.version - 1}" in labels[:place]


def test_labels_are_unique_and_what_they_refer_to_exists(company: Specification) -> None:
    labels = [version.label for version in company.versions]
    assert len(set(labels)) == len(labels)
    assert {version.copy_of for version in company.versions if version.copy_of} <= set(labels)
    assert {version.domain for version in company.versions} <= DOMAINS.keys()
    assert {version.part for version in company.versions} <= set(range(1, PARTS))
    assert company.legacy or all(version.declared_base == BASE for version in company.versions)


def test_the_small_company_has_a_copy_a_drift_and_a_broken_checkpoint() -> None:
    small = specification(Size.SMALL).versions
    assert len(small) == 8
    assert [version.truncated for version in small].count(True) == 1
    assert any(version.copy_of and not version.truncated for version in small)
    assert any(version.stated_domain for version in small)
