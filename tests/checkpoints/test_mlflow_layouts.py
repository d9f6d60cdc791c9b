"""Inspection of artifacts that MLflow itself wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.transformers
import pytest
import transformers

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.inspect import Kind, inspect
from deltadex.checkpoints.tensors import read_tensors
from deltadex.downloads.files import LocalFiles
from deltadex.errors import UnsupportedCheckpoint
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


def polluted_model(models: Path, folder: Path, **adapter: Any) -> Path:
    """The `model` folder that MLflow writes beside the `peft` folder of an adapter of a local base."""
    return save(components(tiny_models.attach_adapter(models / "base", **adapter)), folder) / "model"


def test_mlflow_still_writes_an_adapters_tensors_into_its_base(models: Path, tmp_path: Path) -> None:
    stored = read_tensors([polluted_model(models, tmp_path / "logged") / "model.safetensors"])
    assert any("base_layer" in name for name in stored)
    assert any("lora_A" in name for name in stored)


@pytest.mark.parametrize(
    "adapter",
    [
        {"targets": tiny_models.ALL_LINEAR},
        {"targets": ["q_proj"], "use_dora": True, "modules_to_save": ["lm_head"]},
        {"targets": ["q_proj"], "trainable_token_indices": [1, 2]},
        {"targets": ["embed_tokens"]},
    ],
)
@pytest.mark.filterwarnings("ignore:.*embedding layers found in `target_modules`")
def test_the_polluted_model_beside_an_adapter_is_read_as_the_base(
    models: Path, tmp_path: Path, adapter: dict[str, Any]
) -> None:
    base, logged = (
        inspect(LocalFiles(folder)).fetch()
        for folder in (models / "base", polluted_model(models, tmp_path / "logged", **adapter))
    )
    assert weights_digest(logged) == weights_digest(base)
    assert logged.tensors().keys() == base.tensors().keys()
    check_fit(inspect(LocalFiles(models / "adapter")).fetch(), logged)
    check_fit(inspect(LocalFiles(models / "full")).fetch(), logged)


class Wrap(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return model_input


def wrapped(folder: Path, **artifacts: Path) -> Path:
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=Wrap(),
        artifacts={name: str(path) for name, path in artifacts.items()},
        pip_requirements=["torch"],
    )
    return folder


@pytest.mark.parametrize(("carried", "kind"), [("full", Kind.FULL), ("adapter", Kind.ADAPTER)])
def test_the_only_model_inside_a_pyfunc_is_found(models: Path, tmp_path: Path, carried: str, kind: Kind) -> None:
    checkpoint = inspect(LocalFiles(wrapped(tmp_path / "logged", model=models / carried)))
    assert checkpoint.kind is kind
    assert weights_digest(checkpoint.fetch()) == weights_digest(inspect(LocalFiles(models / carried)).fetch())
    assert not any(path.endswith(".pkl") for path in (*checkpoint.support_files, *checkpoint.weight_files))


def test_a_pyfunc_with_two_models_is_ambiguous(models: Path, tmp_path: Path) -> None:
    folder = wrapped(tmp_path / "logged", base=models / "base", adapter=models / "adapter")
    with pytest.raises(UnsupportedCheckpoint, match="several models"):
        inspect(LocalFiles(folder))


def test_mlflows_base_name_takes_precedence_over_the_model_card(models: Path, tmp_path: Path) -> None:
    folder = full_model(models, tmp_path / "logged")
    (folder / "model" / "README.md").write_text("---\nbase_model: acme/elsewhere\n---\n")
    assert inspect(LocalFiles(folder)).declared_base == str(models / "full")
