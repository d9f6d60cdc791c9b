"""Units: their placeholders, and the detection of tensors that equal the base's."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedModel

from deltadex.checkpoints.digest import identical_tensors
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.lockstep import Lockstep
from deltadex.engine.messages import ignore_progress
from deltadex.engine.probes import PAPER_PROBES
from deltadex.engine.readout import Prompts, Readout, read
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.engine.weights.buffers import HostBuffer
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.units import Unit, slots_of, units_of
from deltadex.types import Embedding
from tests import language_models, many_models

LLAMA = "LlamaForCausalLM"
COMPUTE = Compute.resolve("float32", "cpu")
#: Models whose parents read `self.part.weight` instead of calling the part.
REACHING_PAST = ("MambaForCausalLM", "Mamba2", "Gemma3n")


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def opened(base: Path) -> Base:
    return Base(BaseModel(local(base), "base", "float32"))


def skeleton(folder: Path) -> PreTrainedModel:
    return StoredModel(local(folder)).new_model(COMPUTE.device)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_models.build_model(LLAMA, tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("whole_layers", [False, True])
def test_placeholders_are_nan_and_take_no_memory(base: Path, whole_layers: bool) -> None:
    model = skeleton(base)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for unit in units_of(model, slots_of(model), whole_layers=whole_layers):
        unit.empty(COMPUTE.placeholder())
    for name, parameter in model.named_parameters():
        assert parameter.isnan().all()
        assert parameter.untyped_storage().nbytes() == parameter.itemsize
        assert parameter.shape == shapes[name]
        assert not parameter.requires_grad


def test_a_filled_unit_has_the_given_weights_and_nan_elsewhere(base: Path) -> None:
    model = skeleton(base)
    unit = next(unit for unit in units_of(model, slots_of(model), whole_layers=True) if len(unit.slots) > 1)
    unit.empty(COMPUTE.placeholder())
    first, *others = unit.slots
    weights = torch.ones(first.shape)
    unit.fill({first.name: weights})
    held = dict(model.named_parameters())
    assert held[first.name].data_ptr() == weights.data_ptr()
    assert all(held[slot.name].isnan().all() for slot in others)
    unit.empty(COMPUTE.placeholder())
    assert dict(model.named_parameters())[first.name].isnan().all()


@pytest.mark.parametrize("whole_layers", [False, True])
@pytest.mark.parametrize("name", ["tied Llama", "MixtralForCausalLM", "T5ForConditionalGeneration", *REACHING_PAST])
def test_every_parameter_belongs_to_exactly_one_unit(name: str, whole_layers: bool, tmp_path: Path) -> None:
    model = skeleton(language_models.build_model(name, tmp_path))
    units = units_of(model, slots_of(model), whole_layers=whole_layers)
    named = [slot_name for unit in units for slot_name in unit.names]
    assert sorted(named) == sorted(name for name, _ in model.named_parameters(remove_duplicate=False))
    assert len({unit.key for unit in units}) == len(units)


def test_a_unit_has_the_same_key_with_any_adapter_around_it(base: Path) -> None:
    plain = skeleton(base)
    keys = {unit.key for unit in units_of(plain, slots_of(plain), whole_layers=False)}
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], modules_to_save=["input_layernorm"])
    model = skeleton(base)
    slots = slots_of(model)
    peft.get_peft_model(model, config, low_cpu_mem_usage=True)
    adapted = units_of(model, slots, whole_layers=False)
    assert keys - {unit.key for unit in adapted} == {f"model.layers.{n}.input_layernorm.weight+0" for n in range(2)}
    assert all(unit.key in keys for unit in adapted)
    assert not [name for unit in adapted for name in unit.names if "lora" in name]


def test_a_whole_layer_is_not_mistaken_for_its_first_part(base: Path) -> None:
    model = skeleton(base)
    parts, layers = (units_of(model, slots_of(model), whole_layers=whole) for whole in (False, True))
    inside = [unit.key for unit in layers if ".layers." in unit.key]
    assert len(inside) == model.config.num_hidden_layers
    assert not set(inside) & {unit.key for unit in parts}


def test_only_embeddings_that_use_ids_as_row_numbers_are_read_by_rows(base: Path, tmp_path: Path) -> None:
    opt = language_models.build_model("OPT", tmp_path / "opt")  # its positions begin at row 2
    gemma = language_models.build_model("Gemma2ForCausalLM", tmp_path / "gemma")  # its rows are scaled
    single = {
        name for folder in (base, opt, gemma) for unit in _parts(skeleton(folder)) if unit.rows_only
        for name in unit.names
    }  # fmt: skip
    assert single == {"model.embed_tokens.weight", "model.decoder.embed_tokens.weight"}


def _parts(model: PreTrainedModel) -> list[Unit]:
    return units_of(model, slots_of(model), whole_layers=False)


@dataclass(frozen=True, eq=False)
class PlainPass:
    """A plain forward pass of one model with transformers."""

    model: PreTrainedModel
    prompts: Prompts
    units: Sequence[Unit]

    def run(self) -> Any:
        return read(self.model, self.prompts).numpy()


def run_once(folder: Path, *, whole_layers: bool) -> np.ndarray:
    stored = StoredModel(local(folder))
    model = stored.new_model(COMPUTE.device)
    readout = Readout.of(stored.config)
    prompts = Prompts.tokenize(AutoTokenizer.from_pretrained(folder), PAPER_PROBES, readout)
    units = units_of(model, slots_of(model), whole_layers=whole_layers)
    lockstep = Lockstep(stored, HostBuffer(COMPUTE), on_progress=ignore_progress)
    (states,) = lockstep.run([PlainPass(model, prompts, units)], order=units)
    assert all(parameter.isnan().all() for parameter in model.parameters())
    return states


@pytest.mark.parametrize("name", REACHING_PAST)
def test_a_model_that_bypasses_its_modules_is_loaded_by_whole_layers(name: str, tmp_path: Path) -> None:
    folder = language_models.build_model(name, tmp_path)
    assert np.isnan(run_once(folder, whole_layers=False)).any()
    states = opened(folder).states()
    np.testing.assert_array_equal(states.states, run_once(folder, whole_layers=True))
    np.testing.assert_allclose(states.states, language_models.read_plainly(name, folder), rtol=1e-3, atol=1e-4)
    layers = [key for key in states.order if ".layers." in key]
    assert len(layers) == len(set(layers)) == skeleton(folder).config.num_hidden_layers


def test_a_model_that_calls_its_modules_gives_the_same_result_either_way(base: Path) -> None:
    np.testing.assert_array_equal(run_once(base, whole_layers=False), run_once(base, whole_layers=True))
    assert opened(base).states().order == (
        "model.embed_tokens.weight+0", *_computed(base, 0), *_computed(base, 1), "model.norm.weight+0"
    )  # fmt: skip


def _computed(base: Path, layer: int) -> list[str]:
    attention = [f"self_attn.{part}_proj" for part in "qkvo"]
    mlp = [f"mlp.{part}_proj" for part in ("gate", "up", "down")]
    parts = ["input_layernorm", *attention, "post_attention_layernorm", *mlp]
    return [f"model.layers.{layer}.{part}.weight+0" for part in parts]


def bytes_read(base: Path, finetune: Finetune) -> list[tuple[str, int]]:
    read: list[tuple[str, int]] = []
    engine = opened(base)
    engine.states()
    ((_, outcome),) = engine.embed([finetune], on_progress=lambda unit, count: read.append((unit, count)))
    assert isinstance(outcome, Embedding)
    return read


def changed(base: Path, folder: Path, kind: str, *parts: str) -> tuple[Finetune, Finetune]:
    """A finetune that differs from its base in some tensors: embedded as a whole, and with the equal tensors known."""
    full = many_models.build_finetune(kind, base, folder, strength=0.01)
    new, old = load_file(full / "model.safetensors"), load_file(base / "model.safetensors")
    save_file(
        {n: t if any(part in n for part in parts) else old[n] for n, t in new.items()}, full / "model.safetensors"
    )
    checkpoint = local(full)
    return Finetune(checkpoint, "new"), Finetune(checkpoint, "known", identical_tensors(checkpoint, local(base)))


def assert_equal_when_known(base: Path, whole: Finetune, known: Finetune) -> None:
    engine = opened(base)
    outcomes = dict(engine.embed([whole, known]))
    one, other = outcomes[0], outcomes[1]
    assert isinstance(one, Embedding), one
    assert isinstance(other, Embedding), other
    assert one.norm > 0
    np.testing.assert_array_equal(one.probe_deltas, other.probe_deltas)


def test_frozen_experts_are_not_read_and_a_single_changed_one_is_seen(tmp_path: Path) -> None:
    name = "MixtralForCausalLM"
    base = language_models.build_model(name, tmp_path / "base")
    whole, known = changed(base, tmp_path / "full", name, "layers.1.block_sparse_moe.experts.2.w2")
    assert_equal_when_known(base, whole, known)
    read = bytes_read(base, known)
    assert read
    assert all(unit.startswith(("model.layers.1.", "model.norm")) for unit, _ in read)


@pytest.mark.parametrize("part", ["encoder.layers.1.fc1", "decoder.layers.1.fc1", "model.shared"])
def test_a_frozen_encoder_or_decoder_changes_no_bit(part: str, tmp_path: Path) -> None:
    name = "BartForConditionalGeneration"
    base = language_models.build_model(name, tmp_path / "base")
    assert_equal_when_known(base, *changed(base, tmp_path / "full", name, part))


def test_an_exact_copy_in_other_files_reads_nothing(base: Path, tmp_path: Path) -> None:
    many_models.load(LLAMA, base).save_pretrained(tmp_path, max_shard_size="3KB")
    copy = local(tmp_path)
    assert len(copy.weight_files) > 5
    assert not bytes_read(base, Finetune(copy, "copy", identical_tensors(copy, local(base))))


def test_frozen_layers_whose_keys_later_layers_use_change_nothing(tmp_path: Path) -> None:
    built = language_models.build_model("Gemma3n", tmp_path / "built")
    types = ["sliding_attention", *["full_attention"] * 3]
    edit_config(built, num_kv_shared_layers=1, layer_types=types)
    base = many_models.build_finetune("Gemma3nForCausalLM", built, tmp_path / "base", strength=0.01)
    whole, known = changed(base, tmp_path / "full", "Gemma3nForCausalLM", "layers.3.")
    assert_equal_when_known(base, whole, known)


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}},
        {"rms_norm_eps": 0.01},
        {"hidden_act": "gelu"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_same_tensors_under_another_config_are_no_copy(base: Path, tmp_path: Path, change: dict) -> None:
    other = Path(shutil.copytree(base, tmp_path / "other"))
    edit_config(other, **change)
    checkpoint = local(other)
    known = Finetune(checkpoint, "known", identical_tensors(checkpoint, local(base)))
    assert_equal_when_known(base, Finetune(checkpoint, "new"), known)


def edit_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
