import json
import shutil
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.layout import Kind, LocalCheckpoint, inspect
from deltadex.errors import BrokenCheckpoint
from tests import tiny_models

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": torch.arange(6.0).reshape(3, 2),
    "c": torch.ones(5, dtype=torch.bfloat16),
    "d": torch.ones((), dtype=torch.int32),
    "e": torch.empty(0, 4),
}


def digest_of(folder: Path) -> str:
    return weights_digest(inspect(LocalFiles(folder)).fetch())


def digest_of_shards(shards: list[dict[str, torch.Tensor]]) -> str:
    with TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.safetensors" for number in range(len(shards))]
        for file, shard in zip(files, shards, strict=True):
            save_file(shard, file)
        return weights_digest(LocalCheckpoint(Kind.FULL, Path(folder), tuple(files), None))


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(list(TENSORS)), cuts=st.sets(st.integers(1, len(TENSORS) - 1)))
def test_the_digest_does_not_depend_on_shards_or_order(order: list[str], cuts: set[int]) -> None:
    bounds = [0, *sorted(cuts), len(order)]
    shards = [{name: TENSORS[name] for name in order[i:j]} for i, j in pairwise(bounds)]
    assert digest_of_shards(shards) == digest_of_shards([TENSORS])


@pytest.mark.parametrize(
    "change",
    [
        {"a": TENSORS["a"].reshape(3, 2)},
        {"a": TENSORS["a"] + 1e-6},
        {"c": TENSORS["c"].to(torch.float16)},
        {"f": torch.ones(1)},
        {"a": TENSORS["b"], "b": TENSORS["a"]},
    ],
    ids=["shape", "value", "dtype", "name", "swap"],
)
def test_every_change_of_a_tensor_changes_the_digest(change: dict[str, torch.Tensor]) -> None:
    assert digest_of_shards([{**TENSORS, **change}]) != digest_of_shards([TENSORS])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")


def test_an_exact_copy_under_another_name_has_the_same_digest(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "ours")
    (tmp_path / "ours" / "README.md").write_text("Our own model")
    assert digest_of(tmp_path / "ours") == digest_of(base)


def test_a_model_saved_again_in_shards_has_the_same_digest(base: Path, tmp_path: Path) -> None:
    tiny_models.load(base).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert digest_of(tmp_path) == digest_of(base)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    return tiny_models.build_adapter(base, tmp_path / "adapter", targets=tiny_models.ALL_LINEAR)


def with_config(adapter: Path, **changes: object) -> str:
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    return digest_of(adapter)


@pytest.mark.parametrize(
    "changes",
    [
        {"base_model_name_or_path": "elsewhere"},
        {"target_modules": sorted(tiny_models.ALL_LINEAR)},
        {"lora_dropout": 0.1},
        {"peft_version": "0.1"},
        {"a_field_of_tomorrow": None},
    ],
)
def test_names_in_an_adapters_config_do_not_matter(adapter: Path, changes: dict[str, object]) -> None:
    before = digest_of(adapter)
    assert with_config(adapter, **changes) == before


@pytest.mark.parametrize("changes", [{"lora_alpha": 64}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 1}}])
def test_what_scales_an_adapter_matters(adapter: Path, changes: dict[str, object]) -> None:
    before = digest_of(adapter)
    assert with_config(adapter, **changes) != before


def test_a_truncated_file_has_no_digest(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BrokenCheckpoint, match="should have"):
        digest_of(adapter)


def test_a_remembered_digest_is_forgotten_when_the_file_changes(base: Path, adapter: Path, tmp_path: Path) -> None:
    memo, checkpoint = tmp_path / "memo", inspect(LocalFiles(adapter)).fetch()
    first = weights_digest(checkpoint, memo=memo)
    assert weights_digest(checkpoint, memo=memo) == first == weights_digest(checkpoint)
    assert len(list(memo.iterdir())) == 1
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert weights_digest(checkpoint, memo=memo) == weights_digest(checkpoint) != first
