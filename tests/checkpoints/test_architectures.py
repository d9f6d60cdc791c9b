"""Accepted architectures compared with transformers' text models, and hints for quantized weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from transformers.models.auto import modeling_auto

from deltadex.checkpoints.architectures import check_model
from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.checkpoints.quantization import check_quantization
from deltadex.checkpoints.tensors import StoredTensor
from deltadex.downloads.files import LocalFiles
from deltadex.errors import BaseMismatch, UnsupportedCheckpoint
from tests import many_models, tiny_models

LLAMA = {"architectures": ["LlamaForCausalLM"], "vocab_size": 384}


def is_accepted(architecture: str, **config: object) -> bool:
    try:
        check_model({"architectures": [architecture], **config}, "a model")
    except UnsupportedCheckpoint:
        return False
    return True


def architectures() -> Iterator[tuple[str, str]]:
    """Every class in transformers' auto classes, with the name of its main input."""
    tables = [table for name, table in vars(modeling_auto).items() if name.endswith("_MAPPING_NAMES")]
    names = {
        name for table in tables for entry in table.values() for name in ([entry] if isinstance(entry, str) else entry)
    }
    for name in sorted(names):
        try:
            yield name, getattr(transformers, name).main_input_name
        except (AttributeError, ImportError):  # needs a package that is not installed
            continue


@pytest.mark.filterwarnings("ignore")
def test_no_transformers_architecture_without_text_input_is_accepted() -> None:
    known = dict(architectures())
    plain = {name for name in known if name.endswith("Model") and "Head" not in name}
    accepted = {name for name in known if is_accepted(name, **({} if name in plain else {"vocab_size": 384}))}
    assert len(known) > 1000
    assert len(accepted) > 600
    assert not {name: known[name] for name in accepted if known[name] != "input_ids"}


@pytest.mark.parametrize("architecture", many_models.MODELS)
def test_every_kind_of_language_model_is_accepted(architecture: str) -> None:
    assert is_accepted(architecture, vocab_size=384)


@pytest.mark.parametrize(
    "architecture",
    ["ViTModel", "Wav2Vec2Model", "CLIPModel", "WhisperForConditionalGeneration", "TimesFmModel", "Sam2Model"],
)
def test_image_audio_and_time_series_models_are_refused(architecture: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=f"not a language model.*{architecture}") as caught:
        check_model({"architectures": [architecture]}, "a model")
    assert caught.value.hint


PACKED = {"q_proj.weight": StoredTensor("q_proj.weight", "U8", (4, 4), Path("model.safetensors"), 0, 16)}


@pytest.mark.parametrize("method", ["fp8", "mxfp8", "mxfp4"])
def test_quantizations_that_transformers_can_undo_are_accepted(method: str) -> None:
    check_quantization({**LLAMA, "quantization_config": {"quant_method": method}}, PACKED, "a model")


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "torchao"}, "torchao"),
        ({"quant_method": "hqq"}, "hqq"),
        ({"quant_method": "of-tomorrow"}, "of-tomorrow"),
        ({"bits": 4}, "an unnamed method"),
        ("yes", "a method that its config.json does not name"),
    ],
)
def test_packed_weights_that_were_not_converted_are_refused(quantization: object, message: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=message) as caught:
        check_quantization({**LLAMA, "quantization_config": quantization}, PACKED, "a model")
    assert "DELTADEX_BASES" in caught.value.hint


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def test_a_model_in_eight_bits_fits_the_one_it_was_made_from(tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "base")
    small = local(many_models.build_fp8(base, tmp_path / "fp8"))
    assert check_fit(small, local(base)).identical == 2
    adapter = local(tiny_models.build_adapter(base, tmp_path / "adapter", targets=tiny_models.ALL_LINEAR))
    assert check_fit(adapter, small).modules == 14
    with pytest.raises(BaseMismatch):
        check_fit(small, local(tiny_models.build_base(tmp_path / "unrelated", seed=3)))
