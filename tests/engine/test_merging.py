"""Merges of LoRA adapters, against peft's own `add_weighted_adapter` on the loaded base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoHaConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.adapter_requests import AdapterMerge
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.merging import merge_adapters
from deltadex.engine.requests import BaseModel
from deltadex.errors import BaseMismatch, UnsupportedCheckpoint
from tests import tiny_models


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base")
    for number in range(3):
        tiny_models.build_adapter(base, folder / f"a{number}", seed=number + 1, strength=0.5)
    tiny_models.build_adapter(base, folder / "wide", seed=7, targets=tiny_models.ALL_LINEAR, strength=0.5)
    return folder


def request(models: Path, output: Path, *names: str, **changes: object) -> AdapterMerge:
    checkpoint = local(models / "base")
    base = BaseModel(checkpoint, weights_digest(checkpoint), "float32")
    adapters = tuple(local(models / name) for name in names)
    weights = tuple(0.5 + 0.1 * number for number in range(len(names)))
    output.mkdir(exist_ok=True)
    return AdapterMerge(**{
        "base": base, "base_name": "acme/base", "adapters": adapters, "weights": weights, "method": "cat",
        "folder": output, **changes,
    })  # fmt: skip


def updates(models: Path, folder: Path) -> dict[str, Tensor]:
    """The change of each of the base's matrices, by merging a saved adapter into it with peft."""
    merged = PeftModel.from_pretrained(tiny_models.load(models / "base"), folder).merge_and_unload().state_dict()
    base = tiny_models.load(models / "base").state_dict()
    return {name: merged[name] - base[name] for name in base}


def reference(models: Path, made: AdapterMerge) -> dict[str, Tensor]:
    """The change of each matrix by peft's own merge, on the loaded base."""
    base = tiny_models.load(models / "base")
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    first, *others = (adapter.folder for adapter in made.adapters)
    peft = PeftModel.from_pretrained(base, first, adapter_name="0")
    for number, other in enumerate(others, start=1):
        peft.load_adapter(other, str(number))
    names = [str(number) for number in range(len(made.adapters))]
    with torch.random.fork_rng():
        torch.manual_seed(made.seed)
        peft.add_weighted_adapter(
            names, list(made.weights), "merged", combination_type=made.method, density=made.density, svd_rank=made.rank
        )
    peft.set_adapter("merged")
    merged = peft.merge_and_unload().state_dict()
    return {name: merged[name] - before[name] for name in before}


@pytest.mark.parametrize(
    ("method", "density"),
    [
        ("linear", None), ("cat", None), ("svd", None), ("ties", 0.5), ("magnitude_prune", 0.5), ("ties_svd", 0.5),
        ("magnitude_prune_svd", 0.5),
    ],
)  # fmt: skip
def test_a_merge_is_what_peft_makes_of_the_loaded_models(
    models: Path, tmp_path: Path, method: str, density: float | None
) -> None:
    made = request(models, tmp_path / "merge", "a0", "a1", "a2", method=method, density=density)
    done = merge_adapters(made)
    found, expected = updates(models, made.folder), reference(models, made)
    assert any(tensor.abs().max() > 0.01 for tensor in expected.values())
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, atol=2e-5), name
    config = json.loads((made.folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == ("acme/base", done.rank)
    assert {one.name for one in made.folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert 0.3 < done.conflict < 0.7  # they are random


def test_methods_that_prune_at_random_repeat_with_the_seed(models: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "same", "other")]
    for folder, seed in zip(folders, (5, 5, 6), strict=True):
        merge_adapters(request(models, folder, "a0", "a1", method="dare_ties", density=0.5, seed=seed))
    one, same, other = (load_file(folder / "adapter_model.safetensors") for folder in folders)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_adapters_of_other_modules_and_ranks_add_up(models: Path, tmp_path: Path) -> None:
    other = tiny_models.attach_adapter(models / "base", seed=9, strength=0.5, layers_to_transform=[1])
    other.save_pretrained(str(tmp_path / "upper"))
    adapters = [models / "wide", tmp_path / "upper"]
    made = request(models, tmp_path / "merge", adapters=tuple(map(local, adapters)), weights=(1.0, -0.5))
    assert merge_adapters(made).rank == 8
    found, parents = updates(models, made.folder), [updates(models, folder) for folder in adapters]
    for name, tensor in found.items():
        assert torch.allclose(tensor, parents[0][name] - 0.5 * parents[1][name], atol=2e-5), name
    # The other way round, the first adapter's choice of layers must not drop what the second one changes.
    turned = request(models, tmp_path / "turned", adapters=tuple(map(local, adapters[::-1])), weights=(-0.5, 1.0))
    merge_adapters(turned)
    for name, tensor in updates(models, turned.folder).items():
        assert torch.allclose(tensor, found[name], atol=2e-5), name


def test_a_rank_stabilised_first_parent_is_not_scaled_twice(models: Path, tmp_path: Path) -> None:
    tiny_models.build_adapter(models / "base", tmp_path / "rs", seed=3, strength=0.2, use_rslora=True)
    adapters = [tmp_path / "rs", models / "a0"]
    made = request(models, tmp_path / "merge", adapters=tuple(map(local, adapters)), weights=(1.0, 1.0))
    merge_adapters(made)
    found, parents = updates(models, made.folder), [updates(models, folder) for folder in adapters]
    for name, tensor in found.items():
        assert torch.allclose(tensor, parents[0][name] + parents[1][name], atol=2e-5), name


def test_an_adapter_against_itself_is_in_conflict_nowhere_and_with_its_opposite_everywhere(
    models: Path, tmp_path: Path
) -> None:
    assert merge_adapters(request(models, tmp_path / "one", "a0", "a0")).conflict == 0
    tensors = load_file(models / "a0" / "adapter_model.safetensors")
    (tmp_path / "minus").mkdir()
    (tmp_path / "minus" / "adapter_config.json").write_bytes((models / "a0" / "adapter_config.json").read_bytes())
    turned = {name: -tensor if "lora_B" in name else tensor for name, tensor in tensors.items()}
    save_file(turned, tmp_path / "minus" / "adapter_model.safetensors", metadata={"format": "pt"})
    adapters = tuple(map(local, (models / "a0", tmp_path / "minus")))
    assert merge_adapters(request(models, tmp_path / "two", adapters=adapters, weights=(1.0, 1.0))).conflict == 1


def test_the_files_dtype_is_the_parents(models: Path, tmp_path: Path) -> None:
    for name in ("a0", "a1"):
        half = tmp_path / name
        half.mkdir()
        (half / "adapter_config.json").write_bytes((models / name / "adapter_config.json").read_bytes())
        tensors = load_file(models / name / "adapter_model.safetensors")
        halves = {key: tensor.to(torch.bfloat16) for key, tensor in tensors.items()}
        save_file(halves, half / "adapter_model.safetensors", metadata={"format": "pt"})
    adapters = tuple(local(tmp_path / name) for name in ("a0", "a1"))
    made = request(models, tmp_path / "merge", adapters=adapters, weights=(0.5, 0.5))
    merge_adapters(made)
    kinds = {tensor.dtype for tensor in load_file(made.folder / "adapter_model.safetensors").values()}
    assert kinds == {torch.bfloat16}


@pytest.mark.filterwarnings("ignore:`lora_bias=True`", "ignore:.*LoRA tensor.s. have invalid shape")
@pytest.mark.parametrize("settings", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"lora_bias": True}])
def test_what_is_more_than_a_lora_is_refused(models: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    tiny_models.build_adapter(models / "base", tmp_path / "odd", seed=3, **settings)
    adapters = (local(models / "a0"), local(tmp_path / "odd"))
    with pytest.raises(UnsupportedCheckpoint, match="cannot be merged as an adapter"):
        merge_adapters(request(models, tmp_path / "merge", adapters=adapters, weights=(1.0, 1.0)))


def test_other_types_and_unequal_ranks_are_refused(models: Path, tmp_path: Path) -> None:
    loha = get_peft_model(tiny_models.load(models / "base"), LoHaConfig(target_modules=["q_proj"]))
    loha.save_pretrained(str(tmp_path / "loha"))
    with pytest.raises(UnsupportedCheckpoint, match="type LOHA"):
        merge_adapters(
            request(
                models, tmp_path / "one", adapters=(local(models / "a0"), local(tmp_path / "loha")), weights=(1.0, 1.0)
            )
        )
    merged = request(models, tmp_path / "eight", "a0", "a1")
    merge_adapters(merged)
    adapters = (local(models / "a0"), local(merged.folder))
    with pytest.raises(UnsupportedCheckpoint, match="same r"):
        merge_adapters(
            request(models, tmp_path / "two", adapters=adapters, weights=(1.0, 1.0), method="ties", density=0.5)
        )


def test_an_adapter_of_another_shape_is_refused_by_the_child(models: Path, tmp_path: Path) -> None:
    other = tiny_models.build_base(tmp_path / "other", config=tiny_models.llama_config(hidden_size=16, head_dim=4))
    tiny_models.build_adapter(other, tmp_path / "narrow")
    adapters = (local(models / "a0"), local(tmp_path / "narrow"))
    made = request(models, tmp_path / "merge", adapters=adapters, weights=(1.0, 1.0))
    with EmbeddingProcess() as process:
        with pytest.raises(BaseMismatch, match="cannot be attached"):
            process.merge(made, deadline_seconds=120)
        assert process.merge(request(models, tmp_path / "fine", "a0", "a1"), deadline_seconds=120).rank == 8
