"""What MLflow really writes, so that `inspect` rests on facts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.transformers
import pytest
import transformers

from deltadex.checkpoints.base import check_fit
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.layout import Kind, inspect
from tests import tiny_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base")
    tiny_models.build_adapter(base, folder / "adapter")
    tiny_models.build_full_finetune(base, folder / "full")
    return folder


def save(model: Any, folder: Path, **options: Any) -> Path:
    # MLflow would otherwise look for torchvision to write a requirements file
    mlflow.transformers.save_model(
        model, str(folder), task="text-generation", pip_requirements=["torch", "transformers"], **options
    )
    return folder


def components(model: Any) -> dict[str, Any]:
    return {"model": model, "tokenizer": tiny_models.build_tokenizer()}


def full_model(models: Path, folder: Path) -> Path:
    return save(components(tiny_models.load(models / "full")), folder)


def full_pipeline(models: Path, folder: Path) -> Path:
    pipeline = transformers.pipeline("text-generation", **components(tiny_models.load(models / "full")))
    return save(pipeline, folder)


def adapter_of_a_local_base(models: Path, folder: Path) -> Path:
    return save(components(tiny_models.attach_adapter(models / "base")), folder)


def adapter_with_a_base_path(models: Path, folder: Path) -> Path:
    model = components(tiny_models.attach_adapter(models / "base"))
    return save(model, folder, base_model_path=str(models / "base"))


@pytest.mark.parametrize("log", [full_model, full_pipeline])
def test_a_logged_full_model_is_the_model_that_was_logged(
    models: Path, tmp_path: Path, log: Callable[[Path, Path], Path]
) -> None:
    checkpoint = inspect(LocalFiles(log(models, tmp_path / "logged")))
    local = checkpoint.fetch()
    assert checkpoint.kind is Kind.FULL
    assert local.tokenizer_folder == tmp_path / "logged" / "components" / "tokenizer"
    assert weights_digest(local) == weights_digest(inspect(LocalFiles(models / "full")).fetch())
    check_fit(local, inspect(LocalFiles(models / "base")).fetch())


@pytest.mark.parametrize("log", [adapter_of_a_local_base, adapter_with_a_base_path])
def test_a_logged_adapter_is_read_from_peft_and_not_from_the_polluted_model_beside_it(
    models: Path, tmp_path: Path, log: Callable[[Path, Path], Path]
) -> None:
    checkpoint = inspect(LocalFiles(log(models, tmp_path / "logged")))
    local = checkpoint.fetch()
    assert checkpoint.kind is Kind.ADAPTER
    assert checkpoint.declared_base == str(models / "base")
    assert local.folder == tmp_path / "logged" / "peft"
    assert not any(path.startswith("model/") for path in (*checkpoint.support_files, *checkpoint.weight_files))
    assert weights_digest(local) == weights_digest(inspect(LocalFiles(models / "adapter")).fetch())
