import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from deltadex.checkpoints.fit import UNRELATED_DISTANCE, check_fit
from deltadex.errors import BaseMismatch, UnsupportedCheckpoint
from deltadex.types import BASE_TAG
from tests import tiny_models
from tests.saved_checkpoints import local


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    return tiny_models.build_adapter(base, base.parent / "adapter", targets=tiny_models.ALL_LINEAR)


def test_an_adapter_and_a_finetune_fit_their_base(base: Path, adapter: Path, tmp_path: Path) -> None:
    check_fit(local(adapter), local(base))
    check_fit(local(tiny_models.build_full_finetune(base, tmp_path / "full")), local(base))
    check_fit(local(base), local(base))


@pytest.mark.parametrize("vocabulary", [tiny_models.VOCABULARY + 3, tiny_models.VOCABULARY - 3])
def test_a_resized_vocabulary_fits(base: Path, tmp_path: Path, vocabulary: int) -> None:
    full = tiny_models.build_full_finetune(base, tmp_path / "full", vocabulary=vocabulary)
    check_fit(local(full), local(base))


def test_an_adapter_with_its_own_larger_vocabulary_fits(base: Path, tmp_path: Path) -> None:
    adapter = tiny_models.build_adapter(
        base, tmp_path / "adapter", vocabulary=tiny_models.VOCABULARY + 5, modules_to_save=["embed_tokens", "lm_head"]
    )
    check_fit(local(adapter), local(base))


def test_a_model_saved_from_another_class_fits(base: Path, tmp_path: Path) -> None:
    """The hub's own GPT-2 stores its tensors without the prefix that every finetune of it has."""
    hub = tiny_models.build_base(tmp_path / "hub", config=tiny_models.gpt2_config())
    full = tiny_models.build_full_finetune(hub, tmp_path / "full")
    adapter = tiny_models.build_adapter(hub, tmp_path / "adapter", targets=["c_attn"], fan_in_fan_out=True)
    file = hub / "model.safetensors"
    save_file({name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}, file)
    check_fit(local(full), local(hub))
    check_fit(local(adapter), local(hub))


def test_a_model_trained_from_scratch_is_not_a_finetune(base: Path, tmp_path: Path) -> None:
    unrelated = tiny_models.build_base(tmp_path / "unrelated", seed=1)
    with pytest.raises(BaseMismatch, match=r"weight distance 1\.4") as caught:
        check_fit(local(unrelated), local(base))
    assert BASE_TAG in caught.value.hint


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_unrelated_models_are_refused_at_any_scale(base: Path, tmp_path: Path, scale: float) -> None:
    unrelated = tiny_models.build_base(tmp_path / "unrelated", seed=1)
    file = unrelated / "model.safetensors"
    save_file({name: tensor * scale for name, tensor in load_file(file).items()}, file)
    with pytest.raises(BaseMismatch, match="weight distance"):
        check_fit(local(unrelated), local(base))


@pytest.mark.parametrize("config", [{"hidden_size": 64}, {"num_hidden_layers": 3}, {"intermediate_size": 48}])
def test_another_shape_of_base_does_not_fit(base: Path, tmp_path: Path, config: dict[str, int]) -> None:
    other = tiny_models.build_base(tmp_path / "other", config=tiny_models.llama_config(**config))
    with pytest.raises(BaseMismatch):
        check_fit(local(other), local(base))


@pytest.mark.parametrize("config", [{"hidden_size": 64}, {"intermediate_size": 48}])
def test_an_adapter_does_not_fit_a_base_of_another_shape(adapter: Path, tmp_path: Path, config: dict[str, int]) -> None:
    other = tiny_models.build_base(tmp_path / "other", config=tiny_models.llama_config(**config))
    with pytest.raises(BaseMismatch, match="as a"):
        check_fit(local(adapter), local(other))


def test_an_adapter_does_not_fit_another_architecture(adapter: Path, tmp_path: Path) -> None:
    other = tiny_models.build_base(tmp_path / "other", config=tiny_models.gpt2_config())
    with pytest.raises(BaseMismatch, match="none of the adapter's modules"):
        check_fit(local(adapter), local(other))


def test_an_adapter_is_not_accepted_as_a_base(base: Path, adapter: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="is an adapter itself") as caught:
        check_fit(local(base), local(adapter))
    assert caught.value.hint


def test_weights_in_another_float_type_fit(base: Path, tmp_path: Path) -> None:
    half = tiny_models.build_base(tmp_path / "half", dtype=torch.bfloat16)
    check_fit(local(half), local(base))


def test_a_mismatch_keeps_its_measure_across_processes(base: Path, tmp_path: Path) -> None:
    unrelated = tiny_models.build_base(tmp_path / "unrelated", seed=1)
    with pytest.raises(BaseMismatch) as caught:
        check_fit(local(unrelated), local(base))
    again = copy.copy(caught.value)  # by way of __reduce__, as pickle
    assert (again.measure, again.threshold) == (caught.value.measure, UNRELATED_DISTANCE)
    assert (again.message, again.hint) == (caught.value.message, caught.value.hint)


def test_a_fit_lists_the_tensors_that_changed_most(base: Path, tmp_path: Path) -> None:
    model = tiny_models.load(base)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(1.5)
    model.save_pretrained(tmp_path)
    fit = check_fit(local(tmp_path), local(base))
    assert fit.identical == fit.compared - 1
    assert fit.largest[0] == ("layers.1.mlp.up_proj.weight", pytest.approx(0.5))
    assert fit.largest[1][1] == 0
