"""What is let through by name is what transformers knows as a reader of text; what is quantized is told why not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from transformers.models.auto import modeling_auto

from deltadex.checkpoints.architectures import check_model
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.layout import LocalCheckpoint, inspect
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
    """Every class that transformers' auto classes know, with the name of what it reads."""
    tables = [table for name, table in vars(modeling_auto).items() if name.endswith("_MAPPING_NAMES")]
    names = {
        name for table in tables for entry in table.values() for name in ([entry] if isinstance(entry, str) else entry)
    }
    for name in sorted(names):
        try:
            yield name, getattr(transformers, name).main_input_name
        except (AttributeError, ImportError):  # needs a package that is not here
            continue


@pytest.mark.filterwarnings("ignore")
def test_no_architecture_of_transformers_that_reads_no_text_is_let_through() -> None:
    known = dict(architectures())
    plain = {name for name in known if name.endswith("Model") and "Head" not in name}
    accepted = {name for name in known if is_accepted(name, **({} if name in plain else {"vocab_size": 384}))}
    assert len(known) > 1000
    assert len(accepted) > 600
    assert not {name: known[name] for name in accepted if known[name] != "input_ids"}


@pytest.mark.parametrize("architecture", many_models.MODELS)
def test_every_kind_of_language_model_is_let_through(architecture: str) -> None:
    assert is_accepted(architecture, vocab_size=384)


@pytest.mark.parametrize(
    "architecture",
    ["ViTModel", "Wav2Vec2Model", "CLIPModel", "WhisperForConditionalGeneration", "TimesFmModel", "Sam2Model"],
)
def test_models_of_pictures_sound_and_time_are_not(architecture: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=f"no language model.*{architecture}") as caught:
        check_model({"architectures": [architecture]}, "a model")
    assert caught.value.hint


@pytest.mark.parametrize("method", ["fp8", "mxfp8", "mxfp4"])
def test_what_transformers_dequantizes_itself_is_let_through(method: str) -> None:
    check_model({**LLAMA, "quantization_config": {"quant_method": method}}, "a model")


@pytest.mark.parametrize(
    ("quantization", "said"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes.*the package bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "gptq.*optimum and gptqmodel"),
        ({"quant_method": "awq", "bits": 4}, "awq.*gptqmodel"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "torchao"}, "torchao"),
        ({"quant_method": "hqq"}, "hqq"),
        ({"quant_method": "of-tomorrow"}, "of-tomorrow"),
        ("yes", "an unnamed method"),
    ],
)
def test_other_quantizations_are_told_with_what_they_need(quantization: object, said: str) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=said) as caught:
        check_model({**LLAMA, "quantization_config": quantization}, "a model")
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
        check_fit(small, local(tiny_models.build_base(tmp_path / "stranger", seed=3)))
