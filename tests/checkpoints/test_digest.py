import json
import os
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from deltadex.checkpoints.digest import identical_tensors, tensor_digests, weights_digest
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
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
        (Path(folder) / "config.json").write_text('{"hidden_size": 3}')
        return weights_digest(LocalCheckpoint(Kind.FULL, Path(folder), tuple(files), None))


@settings(max_examples=30)
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


def test_a_cached_digest_is_ignored_when_the_file_changes(base: Path, adapter: Path, tmp_path: Path) -> None:
    memo, checkpoint = tmp_path / "memo", inspect(LocalFiles(adapter)).fetch()
    first = weights_digest(checkpoint, memo=memo)
    assert weights_digest(checkpoint, memo=memo) == first == weights_digest(checkpoint)
    assert len(list(memo.iterdir())) == 1
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert weights_digest(checkpoint, memo=memo) == weights_digest(checkpoint) != first


LORA = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
LORA_TENSORS = {
    f"{LORA}A.weight": torch.arange(8.0).reshape(2, 4),
    f"{LORA}B.weight": torch.arange(6.0).reshape(3, 2),
}
LORA_CONFIG = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["v_proj", "q_proj"],
    "base_model_name_or_path": "acme/base", "lora_dropout": 0.1, "init_lora_weights": True, "bias": "none",
    "use_rslora": True, "peft_version": "0.21.2", "qalora_group_size": 16, "alpha_pattern": {"q_proj": 8},
}  # fmt: skip


def save_lora(folder: Path, **changes: object) -> LocalCheckpoint:
    folder.mkdir(exist_ok=True)
    save_file(LORA_TENSORS, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(LORA_CONFIG | changes))
    return LocalCheckpoint(Kind.ADAPTER, folder, (folder / "adapter_model.safetensors",), None)


def test_digests_that_are_stored_already_stay_valid(tmp_path: Path) -> None:
    assert digest_of_shards([TENSORS]) == "1c619a69b7e518d2116dca01befb6c1fdc392d2c4465874021f99fddfedb5dbf"
    lora = save_lora(tmp_path)
    assert weights_digest(lora) == "06164233076e22aff4c255503d748d33b5869823e3f8f6e39907f079d52ba10a"


def test_the_adapter_below_is_part_of_an_adapters_digest(tmp_path: Path) -> None:
    alone, below = save_lora(tmp_path / "upper"), save_lora(tmp_path / "lower", lora_alpha=32)
    assert weights_digest(replace(alone, below=below)) not in (weights_digest(alone), weights_digest(below))


def test_a_tensors_digest_is_of_its_type_shape_and_bytes_only(tmp_path: Path) -> None:
    same = torch.ones(2, 3)
    tensors = {
        "a": same,
        "b": same.clone(),
        "c": same.reshape(3, 2).clone(),
        "d": same.to(torch.float16),
        "e": same * 2,
    }
    save_file(tensors, tmp_path / "w.safetensors")
    digests = tensor_digests(LocalCheckpoint(Kind.FULL, tmp_path, (tmp_path / "w.safetensors",), None))
    assert digests["a"] == digests["b"]
    assert len(set(digests.values())) == 4


def test_files_with_cached_digests_are_not_read_again(base: Path, tmp_path: Path) -> None:
    memo, checkpoint = tmp_path / "memo", inspect(LocalFiles(base)).fetch()
    digests = tensor_digests(checkpoint, memo=memo)
    (remembered,) = memo.iterdir()
    known = json.loads(remembered.read_bytes())
    assert known.keys() == digests.keys()
    remembered.write_text(json.dumps(dict.fromkeys(known, "remembered")))
    assert weights_digest(checkpoint, memo=memo) != weights_digest(checkpoint)


def test_a_truncated_memo_is_written_again(base: Path, tmp_path: Path) -> None:
    memo, checkpoint = tmp_path / "memo", inspect(LocalFiles(base)).fetch()
    before = tensor_digests(checkpoint, memo=memo)
    (remembered,) = memo.iterdir()
    remembered.write_text(remembered.read_text()[:40])
    assert tensor_digests(checkpoint, memo=memo) == before
    assert json.loads(remembered.read_bytes()).keys() == before.keys()


def test_a_file_that_was_replaced_under_its_old_times_is_read_again(base: Path, tmp_path: Path) -> None:
    memo = tmp_path / "memo"
    checkpoint = inspect(LocalFiles(Path(shutil.copytree(base, tmp_path / "model")))).fetch()
    before = weights_digest(checkpoint, memo=memo)
    (file,) = checkpoint.weight_files
    times = file.stat()
    doubled = {name: tensor * 2 for name, tensor in load_file(file).items()}
    save_file(doubled, tmp_path / "other.safetensors", metadata={"format": "pt"})
    (tmp_path / "other.safetensors").replace(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size
    assert weights_digest(checkpoint, memo=memo) != before


def test_only_frozen_tensors_are_identical_to_the_bases(base: Path, tmp_path: Path) -> None:
    model = tiny_models.load(base)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] += 1e-7
    model.save_pretrained(tmp_path)
    finetune, below = (inspect(LocalFiles(folder)).fetch() for folder in (tmp_path, base))
    changed = finetune.tensors().keys() - identical_tensors(finetune, below, memo=tmp_path / "memo")
    assert changed == {"model.layers.1.mlp.up_proj.weight"}
