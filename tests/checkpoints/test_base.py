import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from deltadex.checkpoints.base import declared_base, locate_base
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.fit import BASE_TAG, UNRELATED_DISTANCE, check_fit
from deltadex.checkpoints.layout import LocalCheckpoint, inspect
from deltadex.errors import BaseMismatch, BaseNotFound, UnsupportedCheckpoint
from tests import tiny_models


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    return tiny_models.build_adapter(base, base.parent / "adapter", targets=tiny_models.ALL_LINEAR)


def test_the_tag_goes_before_what_the_files_say(base: Path, adapter: Path) -> None:
    checkpoint = inspect(LocalFiles(adapter))
    assert declared_base(checkpoint, {}) == str(base)
    assert declared_base(checkpoint, {BASE_TAG: "acme/base-7b"}) == "acme/base-7b"


def test_a_model_that_names_no_base_is_told_about_the_tag(base: Path) -> None:
    with pytest.raises(BaseNotFound) as caught:
        declared_base(inspect(LocalFiles(base)), {})
    assert BASE_TAG in caught.value.hint


def test_the_settings_go_before_a_folder_of_that_name(base: Path) -> None:
    assert locate_base(str(base), {}) == str(base)
    assert locate_base(str(base), {str(base): "models:/base/1"}) == "models:/base/1"


def test_a_registered_model_is_taken_as_it_is() -> None:
    assert locate_base("models:/base/1", {}) == "models:/base/1"


def test_a_missing_base_is_answered_with_the_setting_to_make() -> None:
    with pytest.raises(BaseNotFound, match="acme/base-7b") as caught:
        locate_base("acme/base-7b", {"other": "models:/other/1"})
    setting = caught.value.hint.partition("'")[2].rpartition("'")[0]
    assert json.loads(setting).keys() == {"other", "acme/base-7b"}


def test_a_relative_name_is_not_looked_up_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseNotFound):
        locate_base("gpt2", {})


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


def test_a_model_trained_from_scratch_is_no_finetune(base: Path, tmp_path: Path) -> None:
    stranger = tiny_models.build_base(tmp_path / "stranger", seed=1)
    with pytest.raises(BaseMismatch, match=r"weight distance 1\.4") as caught:
        check_fit(local(stranger), local(base))
    assert BASE_TAG in caught.value.hint


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_strangers_are_told_apart_at_any_scale(base: Path, tmp_path: Path, scale: float) -> None:
    stranger = tiny_models.build_base(tmp_path / "stranger", seed=1)
    file = stranger / "model.safetensors"
    save_file({name: tensor * scale for name, tensor in load_file(file).items()}, file)
    with pytest.raises(BaseMismatch, match="weight distance"):
        check_fit(local(stranger), local(base))


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


def test_an_adapter_is_no_base(base: Path, adapter: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="is an adapter itself") as caught:
        check_fit(local(base), local(adapter))
    assert caught.value.hint


def test_weights_in_another_float_type_fit(base: Path, tmp_path: Path) -> None:
    half = tiny_models.build_base(tmp_path / "half", dtype=torch.bfloat16)
    check_fit(local(half), local(base))


CACHED = "/home/li/.cache/huggingface/hub/models--acme--base-7b/snapshots/0123abc"


@pytest.mark.parametrize(
    ("declared", "bases"),
    [
        ("/home/li/models/base-7b", {"base-7b": "models:/base/1"}),
        ("/home/li/models/base-7b/", {"base-7b": "models:/base/1"}),
        ("D:\\models\\base-7b", {"base-7b": "models:/base/1"}),
        ("/home/li/models/base-7b", {"/home/li/models/base-7b": "models:/base/1", "base-7b": "models:/other/1"}),
        (CACHED, {"acme/base-7b": "models:/base/1"}),
        ("/cache/models--gpt2/snapshots/0123abc/", {"gpt2": "models:/base/1"}),
    ],
)
def test_a_path_of_the_trainers_machine_is_found_by_the_name_it_stands_for(declared: str, bases: dict) -> None:
    assert locate_base(declared, bases) == "models:/base/1"


def test_a_name_of_the_hub_is_not_taken_for_another_models(base: Path) -> None:
    with pytest.raises(BaseNotFound):
        locate_base("acme/base-7b", {"base-7b": "models:/base/1"})


@pytest.mark.parametrize(("declared", "wanted"), [(CACHED, "acme/base-7b"), ("/home/li/base-7b", "/home/li/base-7b")])
def test_the_hint_names_the_key_to_set(declared: str, wanted: str) -> None:
    with pytest.raises(BaseNotFound) as caught:
        locate_base(declared, {})
    setting = json.loads(caught.value.hint.partition("'")[2].rpartition("'")[0])
    assert locate_base(declared, dict.fromkeys(setting, "models:/base/1")) == "models:/base/1"
    assert list(setting) == [wanted]


def test_a_mismatch_keeps_its_measure_across_processes(base: Path, tmp_path: Path) -> None:
    stranger = tiny_models.build_base(tmp_path / "stranger", seed=1)
    with pytest.raises(BaseMismatch) as caught:
        check_fit(local(stranger), local(base))
    again = copy.copy(caught.value)  # by way of __reduce__, as pickle
    assert (again.measure, again.threshold) == (caught.value.measure, UNRELATED_DISTANCE)
    assert (again.message, again.hint) == (caught.value.message, caught.value.hint)


def test_the_evidence_of_a_fit_names_what_moved_most(base: Path, tmp_path: Path) -> None:
    model = tiny_models.load(base)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(1.5)
    model.save_pretrained(tmp_path)
    fit = check_fit(local(tmp_path), local(base))
    assert fit.identical == fit.compared - 1
    assert fit.largest[0] == ("layers.1.mlp.up_proj.weight", pytest.approx(0.5))
    assert fit.median_distance == 0
