"""GGUF: what a plain load by transformers gives, with `gguf_file=…` and `GgufConfig(dequantize=True)`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.files import LocalFiles
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint
from tests import language_models, many_models
from tests.language_models import Bases
from tests.plain_copies import assert_close, plain, probe_deltas, stored
from tests.quantized_models import with_gguf
from tests.saved_checkpoints import LLAMA

#: Kinds of blocks that the package can write, and plain numbers.
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
MODELS = (LLAMA, "tied Llama", "Qwen2", "Gemma2ForCausalLM")


def loaded_plainly(folder: Path, to: Path, *, tokenizer: Path) -> Path:
    """What transformers makes of the file, saved."""
    [file] = folder.glob("*.gguf")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    model.save_pretrained(to)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, to)
    return to


def read(name: str, folder: Path) -> np.ndarray:
    return language_models.read_plainly(name, folder)


@pytest.mark.parametrize("kind", TYPES)
def test_any_type_gives_the_values_of_a_plain_load(kind: str, finetune: Path, bases: Bases, tmp_path: Path) -> None:
    base = bases(LLAMA)
    folder = with_gguf(finetune, tmp_path / "quantized", kind)
    reference = loaded_plainly(folder, tmp_path / "reference", tokenizer=base)
    copy = plain(folder, tmp_path / "plain")
    values = load_file(reference / "model.safetensors")
    found = stored(copy)
    assert found.keys() >= values.keys()
    for name, value in values.items():
        torch.testing.assert_close(found[name].float(), value, rtol=0, atol=0)
    assert (copy.bits is None) == (kind in ("F32", "F16", "BF16"))
    assert_close(probe_deltas(base, copy), read(LLAMA, reference) - read(LLAMA, base))


@pytest.mark.parametrize("name", MODELS)
def test_any_architecture_is_read_as_a_plain_load_reads_it(name: str, bases: Bases, tmp_path: Path) -> None:
    base = bases(name)
    full = many_models.build_finetune(language_models.class_of(name), base, tmp_path / "full", strength=0.01)
    folder = with_gguf(full, tmp_path / "quantized", "Q8_0")
    reference = loaded_plainly(folder, tmp_path / "reference", tokenizer=base)
    copy = plain(folder, tmp_path / "plain")
    assert copy.bits == 8.5
    assert_close(probe_deltas(base, copy), read(name, reference) - read(name, base))


def test_a_config_and_a_tokenizer_beside_the_file_come_before_those_inside(
    finetune: Path, bases: Bases, tmp_path: Path
) -> None:
    beside = ("config.json", "tokenizer.json", "tokenizer_config.json")
    folder = with_gguf(finetune, tmp_path / "quantized", "Q8_0", tokenizer=False, beside=beside)
    copy = plain(folder, tmp_path / "plain")
    assert copy.read_config() == {**copy.read_config(), "architectures": ["LlamaForCausalLM"]}
    alone = plain(with_gguf(finetune, tmp_path / "alone", "Q8_0"), tmp_path / "plain-alone")
    np.testing.assert_allclose(probe_deltas(bases(LLAMA), copy), probe_deltas(bases(LLAMA), alone), atol=1e-6)


def test_one_file_of_several_is_not_guessed(finetune: Path, tmp_path: Path) -> None:
    folder = with_gguf(finetune, tmp_path / "quantized", "Q8_0")
    shutil.copy(folder / "model-Q8_0.gguf", folder / "mmproj-F16.gguf")
    assert inspect(LocalFiles(folder)).weight_files == ("model-Q8_0.gguf",)
    shutil.copy(folder / "model-Q8_0.gguf", folder / "model-Q4_0.gguf")
    with pytest.raises(UnsupportedCheckpoint, match="2 GGUF files"):
        inspect(LocalFiles(folder))


def test_parts_of_one_file_are_to_be_joined(finetune: Path, tmp_path: Path) -> None:
    folder = with_gguf(finetune, tmp_path / "quantized", "Q8_0")
    for number in (1, 2):
        shutil.copy(folder / "model-Q8_0.gguf", folder / f"model-{number:05}-of-00002.gguf")
    (folder / "model-Q8_0.gguf").unlink()
    with pytest.raises(UnsupportedCheckpoint, match="one model in 2 GGUF files") as caught:
        inspect(LocalFiles(folder))
    assert "llama-gguf-split" in caught.value.hint


def test_an_unknown_architecture_is_unsupported(finetune: Path, tmp_path: Path) -> None:
    folder = with_gguf(finetune, tmp_path / "quantized", "Q8_0")
    [file] = folder.glob("*.gguf")
    file.write_bytes(file.read_bytes().replace(b"llama", b"lemur"))
    with pytest.raises(UnsupportedCheckpoint, match="lemur"):
        plain(folder, tmp_path / "plain")


@pytest.mark.parametrize("share", [0.0001, 0.5, 0.99])
def test_a_file_that_was_cut_short_is_broken(share: float, finetune: Path, tmp_path: Path) -> None:
    folder = with_gguf(finetune, tmp_path / "quantized", "Q8_0")
    [file] = folder.glob("*.gguf")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises((BrokenCheckpoint, UnsupportedCheckpoint), match="quantized"):
        plain(folder, tmp_path / "plain")
