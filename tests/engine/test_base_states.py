from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.base_states import BaseStates
from deltadex.engine.delta import Base
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.types import Embedding
from tests import tiny_models

LAYERS = 4


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_models.llama_config(num_hidden_layers=LAYERS)
    return tiny_models.build_base(tmp_path_factory.mktemp("models") / "base", config=config)


def opened(base: Path, *, digest: str = "base", dtype: str = "float32", states: Path | None = None) -> Base:
    return Base(BaseModel(local(base), digest, dtype, states))


def changed_from(base: Path, folder: Path, layer: int) -> tuple[Path, frozenset[str]]:
    """A full finetune whose first layers equal the base's, and the names of the equal tensors."""
    full = tiny_models.build_full_finetune(base, folder)
    tensors, original = load_file(full / "model.safetensors"), load_file(base / "model.safetensors")
    frozen = ["model.embed_tokens.weight", *(f"model.layers.{number}." for number in range(layer))]
    identical = frozenset(name for name in tensors if name.startswith(tuple(frozen)))
    save_file({n: original[n] if n in identical else t for n, t in tensors.items()}, full / "model.safetensors")
    return full, identical


def embed(base: Base, finetune: Path, identical: frozenset[str] = frozenset()) -> tuple[Embedding, int]:
    """The embedding and the number of bytes of weights read for it."""
    read: list[int] = []
    base.states()
    ((_, outcome),) = base.embed(
        [Finetune(local(finetune), "weights", identical)], on_progress=lambda _, count: read.append(count)
    )
    assert isinstance(outcome, Embedding)
    return outcome, sum(read)


@pytest.mark.parametrize("layer", range(1, LAYERS + 1))
def test_frozen_first_layers_are_not_read_and_change_no_bit(base: Path, tmp_path: Path, layer: int) -> None:
    full, identical = changed_from(base, tmp_path / "full", layer)
    engine = opened(base)
    whole, all_bytes = embed(engine, full)
    resumed, some_bytes = embed(engine, full, identical)
    np.testing.assert_array_equal(resumed.probe_deltas, whole.probe_deltas)
    assert resumed.norm > 0
    per_layer = all_bytes // LAYERS
    assert all_bytes - layer * per_layer <= some_bytes <= all_bytes - (layer - 0.5) * per_layer


def test_a_changed_embedding_row_is_seen_although_every_layer_is_frozen(base: Path, tmp_path: Path) -> None:
    full, identical = changed_from(base, tmp_path / "full", LAYERS)
    engine = opened(base)
    without = identical - {"model.embed_tokens.weight"}
    np.testing.assert_array_equal(embed(engine, full, without)[0].vector, embed(engine, full)[0].vector)


def test_an_exact_copy_costs_no_pass(base: Path) -> None:
    copy, read = embed(opened(base), base, frozenset(load_file(base / "model.safetensors")))
    assert not copy.probe_deltas.any()
    assert read == 0


def test_an_adapter_of_the_last_layer_starts_there(base: Path, tmp_path: Path) -> None:
    last = tiny_models.build_adapter(base, tmp_path / "last", layers_to_transform=[LAYERS - 1])
    wide = tiny_models.build_adapter(base, tmp_path / "wide")
    known = opened(base)
    _, few_bytes = embed(known, last)
    _, all_bytes = embed(known, wide)
    assert few_bytes < 1.5 * all_bytes / LAYERS


@pytest.mark.parametrize("saved", ["embed_tokens", "input_layernorm"])
def test_a_module_that_an_adapter_replaces_counts_as_changed(base: Path, tmp_path: Path, saved: str) -> None:
    lora = {"layers_to_transform": [LAYERS - 1], "modules_to_save": [saved]}
    adapter = tiny_models.build_adapter(base, tmp_path / "adapter", **lora)
    tensors = load_file(adapter / "adapter_model.safetensors")
    moved = {name: tensor + 0.01 if saved in name else tensor for name, tensor in tensors.items()}
    plain, _ = embed(opened(base), adapter)
    save_file(moved, adapter / "adapter_model.safetensors")
    assert not np.allclose(embed(opened(base), adapter)[0].vector, plain.vector)


def test_states_are_kept_and_read_back_to_the_bit(base: Path, tmp_path: Path) -> None:
    adapter = tiny_models.build_adapter(base, tmp_path / "adapter")
    first, _ = embed(opened(base, states=tmp_path), adapter)
    (file,) = tmp_path.glob("*.safetensors")
    read: list[int] = []
    again = opened(base, states=tmp_path).states(on_progress=lambda _, count: read.append(count))
    assert not read
    assert len(again.after_layers) == LAYERS
    second, _ = embed(opened(base, states=tmp_path), adapter)
    np.testing.assert_array_equal(first.probe_deltas, second.probe_deltas)
    file.write_bytes(file.read_bytes()[:-5])
    assert BaseStates.read(file) is None
    assert embed(opened(base, states=tmp_path), adapter)[0].norm == first.norm


def test_states_of_another_base_or_dtype_are_never_taken(base: Path, tmp_path: Path) -> None:
    opened(base, states=tmp_path).states()
    opened(base, digest="other", states=tmp_path).states()
    opened(base, dtype="bfloat16", states=tmp_path).states()
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_the_noise_floor_is_measured_and_small(base: Path) -> None:
    threads = torch.get_num_threads()
    in_float32 = opened(base).states().noise_floor
    in_bfloat16 = opened(base, dtype="bfloat16").states().noise_floor
    assert 0 <= in_float32 < 1e-5
    assert 1e-5 < in_bfloat16 < 0.1
    assert torch.get_num_threads() == threads
