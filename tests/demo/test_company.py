from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.inspect import Checkpoint, inspect
from deltadex.checkpoints.low_rank import low_rank
from deltadex.demo.company import Company, Model, build_specification, train_specification
from deltadex.demo.specification import BASE, LEGACY_BASE, LICENSE
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.errors import BaseMismatch, BrokenCheckpoint, UnsupportedCheckpoint
from tests.demo.conftest import tiny_specification


def model(company: Company, label: str) -> Model:
    [found] = [model for model in company.models if model.version.label == label]
    return found


def checkpoint(folder: Path) -> Checkpoint:
    return inspect(LocalFiles(folder))


def digests(company: Company) -> list[str]:
    whole = [model.folder for model in company.models if not (model.version.truncated or model.version.init)]
    return [weights_digest(checkpoint(folder).fetch()) for folder in (*company.bases.values(), *whole)]


def written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_second_build_finds_everything_and_writes_nothing(company_folder: Path, tiny_company: Company) -> None:
    before = written(company_folder)
    assert build_specification(company_folder, tiny_specification()) == tiny_company
    assert written(company_folder) == before


def test_equal_seeds_give_equal_weights_and_other_seeds_others(tiny_company: Company, tmp_path: Path) -> None:
    again = build_specification(tmp_path, tiny_specification())
    other = build_specification(tmp_path, tiny_specification(), seed=1)
    assert digests(again) == digests(tiny_company)
    assert not set(digests(other)) & set(digests(tiny_company))


def test_a_build_that_was_killed_makes_only_what_is_missing(tiny_company: Company, tmp_path: Path) -> None:
    partial = build_specification(tmp_path, tiny_specification())
    lost = model(partial, "contract-drafter/1").folder
    kept = written(model(partial, "product-catalog-json/1").folder)
    shutil.rmtree(lost.parent)
    assert build_specification(tmp_path, tiny_specification()) == partial
    assert written(model(partial, "product-catalog-json/1").folder) == kept
    assert digests(partial) == digests(tiny_company)


def test_a_model_is_trained_when_it_is_asked_for(tmp_path: Path, tiny_company: Company) -> None:
    begun = train_specification(tmp_path, tiny_specification())
    assert (begun.name, begun.bases.keys(), begun.count) == (
        tiny_company.name,
        tiny_company.bases.keys(),
        tiny_company.count,
    )
    [home] = tmp_path.iterdir()
    assert len(list(home.iterdir())) == len(begun.bases)
    first = next(begun.models)
    assert first.version == tiny_company.models[0].version
    assert len(list(home.iterdir())) == len(begun.bases) + 1
    assert [model.version for model in begun.models] == [model.version for model in tiny_company.models[1:]]


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}

    def progress(description: str, completed: int, total: int) -> None:
        assert completed >= seen.get(description, (0, 0))[0]
        seen[description] = completed, total

    build_specification(tmp_path, tiny_specification(), progress=progress)
    assert len(seen) == 3
    assert all(completed == total > 0 for completed, total in seen.values())


@pytest.mark.parametrize("label", ["analytics-sql-writer/1", "product-catalog-json/1", "synthetic-sql-001/1"])
def test_finetunes_declare_the_base_and_change_its_hidden_states(tiny_company: Company, label: str) -> None:
    found = model(tiny_company, label)
    if "synthetic" in label:
        found = next(model for model in tiny_company.models if model.version.synthetic)
    finetune, base = checkpoint(found.folder), checkpoint(tiny_company.bases[BASE]).fetch()
    assert finetune.declared_base == BASE
    check_fit(finetune.fetch(), base)
    engine = Base(BaseModel(base, digest="base", dtype="float32"))
    ((_, embedding),) = engine.embed([Finetune(finetune.fetch(), "finetune")])
    assert embedding.strength > 0


def test_the_wrongly_declared_base_does_not_fit(tiny_company: Company) -> None:
    finetune = checkpoint(model(tiny_company, "search-query-rewriter/1").folder)
    assert finetune.declared_base == LEGACY_BASE
    check_fit(finetune.fetch(), checkpoint(tiny_company.bases[BASE]).fetch())
    with pytest.raises(BaseMismatch):
        check_fit(finetune.fetch(), checkpoint(tiny_company.bases[LEGACY_BASE]).fetch())


def test_the_merged_adapter_can_be_served_as_an_adapter(tiny_company: Company) -> None:
    merged = checkpoint(model(tiny_company, "help-centre-offline/1").folder)
    base = checkpoint(tiny_company.bases[BASE]).fetch()
    found = low_rank(merged.fetch(), base, identical=())
    assert merged.declared_base == BASE
    assert found is not None
    assert found.rank <= 8


def test_an_adapter_whose_initialisation_changed_the_base_is_not_supported(tiny_company: Company) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="pissa"):
        checkpoint(model(tiny_company, "chat-greeter/1").folder)


def test_the_bases_declare_the_licence_that_the_company_allows(tiny_company: Company) -> None:
    assert {checkpoint(folder).license for folder in tiny_company.bases.values()} == {LICENSE}


def test_the_copy_is_exact_and_the_truncated_checkpoint_is_broken(tiny_company: Company) -> None:
    copy, original = (
        weights_digest(checkpoint(model(tiny_company, label).folder).fetch())
        for label in ("vendor-agreements/1", "contract-drafter/1")
    )
    assert copy == original
    with pytest.raises(BrokenCheckpoint):
        weights_digest(checkpoint(model(tiny_company, "invoice-extractor/1").folder).fetch())


def test_a_synthetic_adapter_is_the_weighted_sum_of_its_parents_but_for_its_noise(
    tiny_company: Company, tmp_path: Path
) -> None:
    from deltadex.demo.specification import ModelVersion
    from deltadex.demo.synthetic import Variation, write

    parents = ("analytics-sql-writer/1", "contract-drafter/1")
    adapters = {label: model(tiny_company, label).folder for label in parents}
    version = ModelVersion("synthetic", "synthetic", "sql", 0, synthetic=True)
    write(Variation(version, parents, share=0.75, noise=0.0, seed=0), adapters, tmp_path / "mixed")
    first, second, mixed = (
        load_file(folder / "adapter_model.safetensors") for folder in (*adapters.values(), tmp_path / "mixed")
    )
    for name_a in (name for name in first if ".lora_A." in name):
        name_b = name_a.replace(".lora_A.", ".lora_B.")
        expected = 0.75 * first[name_b] @ first[name_a] + 0.25 * second[name_b] @ second[name_a]
        actual = mixed[name_b].astype(np.float32) @ mixed[name_a].astype(np.float32)
        np.testing.assert_allclose(actual, expected, atol=1e-5)
