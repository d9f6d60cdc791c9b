"""Checkpoints of a colleague with bad intentions: a stated reason or an embedding, never anything else."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.inspect import chain, inspect
from deltadex.checkpoints.merge_check import imprint
from deltadex.checkpoints.sketch import sketch
from deltadex.downloads.files import LocalFiles
from deltadex.errors import BrokenCheckpoint, DeltadexError
from deltadex.types import Embedding
from tests import tiny_models
from tests.saved_checkpoints import Tensors, embedding, local, rewrite

pytestmark = pytest.mark.filterwarnings("ignore")

Damage = Callable[[Path], None]
CANARY = "canary"


def edit(folder: Path, file: str, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))


def field(name: str, value: object, *, file: str = "") -> Damage:
    def damage(folder: Path) -> None:
        own = "adapter_config.json" if (folder / "adapter_config.json").exists() else "config.json"
        edit(folder, file or own, lambda content: content.__setitem__(name, value))

    return damage


def raw(file: str, content: str | bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def text_field(name: str, literal: str) -> Damage:
    """A value that `json.dumps` would not write: 1e400, Infinity, 4,000 digits."""

    def damage(folder: Path) -> None:
        own = folder / ("adapter_config.json" if (folder / "adapter_config.json").exists() else "config.json")
        content = json.loads(own.read_text()) | {name: "@"}
        own.write_text(json.dumps(content).replace('"@"', literal))

    return damage


def tensors(change: Callable[[Tensors], Tensors]) -> Damage:
    return lambda folder: rewrite(folder, change)


def header(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        file = next(folder.glob("*.safetensors"))
        content = file.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        described = json.loads(content[8 : 8 + length])
        change(described)
        new = json.dumps(described).encode()
        file.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + length :])

    return damage


class Canary:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (os.mkdir, (str(self.file),))


def pickled(name: str, *, instead: bool = True) -> Damage:
    def damage(folder: Path) -> None:
        if instead:
            next(folder.glob("*.safetensors")).unlink()
        (folder / name).write_bytes(pickle.dumps(Canary(folder.parent / CANARY)))

    return damage


def python_code(folder: Path) -> None:
    code = f"import os; os.mkdir({str(folder.parent / CANARY)!r})\n"
    for name in ("modeling.py", "configuration.py", "tokenization.py", "setup.py", "conftest.py"):
        (folder / name).write_text(code)
    auto_map = {"AutoConfig": "configuration.C", "AutoModelForCausalLM": "modeling.M", "AutoModel": "modeling.M"}
    field("auto_map", auto_map, file="config.json")(folder)
    field("model_type", "its-own", file="config.json")(folder)


def tokenizer_code(folder: Path) -> None:
    (folder / "tokenization.py").write_text(f"import os; os.mkdir({str(folder.parent / CANARY)!r})\n")
    field("auto_map", {"AutoTokenizer": ["tokenization.T", None]}, file="tokenizer_config.json")(folder)
    field("tokenizer_class", "T", file="tokenizer_config.json")(folder)


def linked(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.unlink()
    file.symlink_to("/dev/zero")


def looped(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)


FULL: dict[str, Damage] = {
    "pickle instead": pickled("pytorch_model.bin"),
    "pickle beside": pickled("pytorch_model.bin", instead=False),
    "training arguments": pickled("training_args.bin", instead=False),
    "python code": python_code,
    "python code for the tokenizer": tokenizer_code,
    "a link to a device": linked,
    "a link to itself": looped,
    "empty weights": raw("model.safetensors", b""),
    "eight bytes": raw("model.safetensors", b"\xff" * 8),
    "a header of 2^63 bytes": raw("model.safetensors", struct.pack("<Q", 1 << 63) + b"{}"),
    "a header that is a list": raw("model.safetensors", struct.pack("<Q", 2) + b"[]"),
    "a header nested deep": raw("model.safetensors", struct.pack("<Q", 200_000) + b"[" * 200_000),
    "offsets that overlap": header(lambda h: [e.update(data_offsets=[0, 4]) for e in h.values() if "shape" in e]),
    "offsets beyond the file": header(lambda h: h["lm_head.weight"].update(data_offsets=[0, 1 << 60])),
    "negative offsets": header(lambda h: h["lm_head.weight"].update(data_offsets=[-8, 0])),
    "an unknown dtype": header(lambda h: h["lm_head.weight"].update(dtype="Q2")),
    "a shape of text": header(lambda h: h["lm_head.weight"].update(shape=["a"])),
    "a huge shape": header(lambda h: h["lm_head.weight"].update(shape=[1 << 40, 1 << 40])),
    "metadata that is no text": header(lambda h: h.update(__metadata__={"a": [1]})),
    "a name with a newline": tensors(lambda t: {**t, "a\nb": torch.ones(1)}),
    "a name that climbs": tensors(lambda t: {**t, "../../x.weight": torch.ones(2, 2)}),
    "NaN everywhere": tensors(lambda t: {n: x * torch.nan for n, x in t.items()}),
    "huge numbers": tensors(lambda t: {n: x * 1e38 for n, x in t.items()}),
    "all zeros": tensors(lambda t: {n: x * 0 for n, x in t.items()}),
    "complex numbers": tensors(lambda t: {n: x.to(torch.complex64) for n, x in t.items()}),
    "booleans": tensors(lambda t: {n: x > 0 for n, x in t.items()}),
    "no tensors": tensors(lambda t: {}),
    "no config": lambda folder: (folder / "config.json").unlink(),
    "config nested deep": raw("config.json", "[" * 100_000),
    "config of a number": raw("config.json", "7"),
    "config in UTF-16": raw("config.json", '{"model_type": "llama"}'.encode("utf-16")),
    "config with a NUL": raw("config.json", '{"model_type": "lla\\u0000ma", "architectures": ["LlamaForCausalLM"]}'),
    "model type of a path": field("model_type", "../../etc/passwd"),
    "architecture of transformers' own": field("architectures", ["PreTrainedModel"]),
    "architecture that is a function": field("architectures", ["pipelineForCausalLM"]),
    "architecture in a list": field("architectures", [["LlamaForCausalLM"]]),
    "a million layers": field("num_hidden_layers", 200_000),
    "negative layers": field("num_hidden_layers", -1),
    "layers of text": field("num_hidden_layers", "two"),
    "no heads": field("num_attention_heads", 0),
    "an infinite epsilon": text_field("rms_norm_eps", "Infinity"),
    "an epsilon of 1e400": text_field("rms_norm_eps", "1e400"),
    "a size of 4,000 digits": text_field("hidden_size", "9" * 4000),
    "a vocabulary of billions": field("vocab_size", 1 << 33),
    "rope of nothing": field("rope_parameters", {"rope_type": "yarn", "factor": 0}),
    "rope of text": field("rope_parameters", "none"),
    "an unknown activation": field("hidden_act", "__import__('os').getcwd"),
    "attention from a hub": field("_attn_implementation", "acme/kernels"),
    "quantization by a list": field("quantization_config", [1]),
    "quantization of tomorrow": field("quantization_config", {"quant_method": "of-tomorrow"}),
    "an index that climbs": lambda folder: (
        (folder / "model.safetensors").unlink(),
        raw("model.safetensors.index.json", '{"weight_map": {"a": "../../../etc/passwd"}}')(folder),
    ),
    "an absolute index": lambda folder: (
        (folder / "model.safetensors").unlink(),
        raw("model.safetensors.index.json", '{"weight_map": {"a": "/etc/passwd"}}')(folder),
    ),
    "an index of numbers": lambda folder: (
        (folder / "model.safetensors").unlink(),
        raw("model.safetensors.index.json", '{"weight_map": {"a": 7}}')(folder),
    ),
    "MLmodel of expanding YAML": raw("MLmodel", "a: &a {x: 1}\nflavors: {<<: [*a, *a]}\n"),
    "MLmodel with Python": raw("MLmodel", "!!python/object/apply:os.mkdir [canary]\n"),
    "MLmodel that climbs": raw("MLmodel", "flavors: {transformers: {model_binary: ../../..}}\n"),
    "MLmodel of a list": raw("MLmodel", "flavors: {transformers: {model_binary: [a, b]}}\n"),
    "a card with Python": raw("README.md", "---\nbase_model: !!python/object/apply:os.getcwd []\n---\n"),
    "a card of binary": raw("README.md", b"---\n\xff\xfe\x00---\n"),
    "a tokenizer of another world": raw("tokenizer.json", "{}"),
    "a tokenizer nested deep": raw("tokenizer.json", "[" * 100_000),
    "a tokenizer of binary": raw("tokenizer.json", b"\x00" * 1000),
    "a tokenizer class of text": field("tokenizer_class", "__import__", file="tokenizer_config.json"),
    "a tokenizer that slowly matches": lambda folder: edit(
        folder,
        "tokenizer.json",
        lambda t: t.update(
            pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a*)*b"}, "behavior": "Isolated", "invert": False}
        ),
    ),
    "generation config of text": raw("generation_config.json", '"x"'),
    "generation starts at text": raw("generation_config.json", '{"decoder_start_token_id": "x"}'),
}

ADAPTER: dict[str, Damage] = {
    "pickle instead": pickled("adapter_model.bin"),
    "no weights": tensors(lambda t: {}),
    "rank of text": field("r", "eight"),
    "rank of zero": field("r", 0),
    "negative rank": field("r", -4),
    "an infinite rank": text_field("r", "Infinity"),
    "a rank of 1e400": text_field("r", "1e400"),
    "a huge rank": field("r", 1 << 40),
    "an infinite alpha": text_field("lora_alpha", "Infinity"),
    "alpha of NaN": text_field("lora_alpha", "NaN"),
    "alpha of text": field("lora_alpha", "x"),
    "a type of its own": field("peft_type", "ACME"),
    "a type in a list": field("peft_type", ["LORA"]),
    "a task of its own": field("task_type", "ACME"),
    "targets of nothing": field("target_modules", []),
    "targets that match all": field("target_modules", ".*"),
    "targets that are no pattern": field("target_modules", "(["),
    "targets of numbers": field("target_modules", [1, 2]),
    "layers beyond the model": field("layers_to_transform", [900]),
    "a pattern of text": field("rank_pattern", "x"),
    "tokens of nowhere": field("trainable_token_indices", [-1]),
    "tokens of the far end": field("trainable_token_indices", [1 << 40]),
    "a revision that climbs": field("revision", "../../.."),
    "a base on the web": field("base_model_name_or_path", "http://127.0.0.1:9/base"),
    "a base that climbs": field("base_model_name_or_path", "../../../etc"),
    "code of its own": field("auto_mapping", {"base_model_class": "os", "parent_library": "os"}),
    "an unknown field": field("of_tomorrow", {"a": 1}),
    "NaN": tensors(lambda t: {n: x * torch.nan for n, x in t.items()}),
    "other widths": tensors(lambda t: {n: x.repeat(1, 2) for n, x in t.items()}),
    "names of elsewhere": tensors(lambda t: {f"x.{n}": x for n, x in t.items()}),
    "one axis": tensors(lambda t: {n: x.flatten() for n, x in t.items()}),
    "integers": tensors(lambda t: {n: (x * 100).to(torch.int64) for n, x in t.items()}),
    "half a pair": tensors(lambda t: {n: x for n, x in t.items() if "lora_B" not in n}),
    "config nested deep": raw("adapter_config.json", "{" * 100_000),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def models(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "full": tiny_models.build_full_finetune(base, folder / "full"),
        "adapter": tiny_models.build_adapter(base, folder / "adapter"),
    }


def outcome(base: Path, folder: Path) -> Embedding | DeltadexError:
    """Return what becomes of a checkpoint, by all that the flow does with its files."""
    try:
        described = inspect(LocalFiles(folder))
        ours, theirs = described.fetch(), local(base)
        check_fit(ours, theirs)
        imprint(ours, theirs)
        sketch(ours, theirs)
        return embedding(base, folder)
    except DeltadexError as error:
        return error


@pytest.mark.parametrize(
    ("kind", "damage"),
    [("full", name) for name in FULL] + [("adapter", name) for name in ADAPTER],
)
def test_a_hostile_checkpoint_ends_with_a_reason_or_an_embedding(
    kind: str, damage: str, base: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(models[kind], tmp_path / "model"))
    {"full": FULL, "adapter": ADAPTER}[kind][damage](folder)
    result = outcome(base, folder)
    assert not (tmp_path / CANARY).exists()
    assert not Path(CANARY).exists()
    if isinstance(result, Embedding):
        assert np.isfinite(result.probe_deltas).all()
        return
    assert result.hint
    assert "Traceback" not in result.message
    assert "See the log" not in result.hint, result.message


@pytest.mark.parametrize("damage", FULL)
def test_a_hostile_base_ends_with_a_reason_or_an_embedding(
    damage: str, base: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    hostile = Path(shutil.copytree(base, tmp_path / "base"))
    FULL[damage](hostile)
    result = outcome(hostile, models["adapter"])
    assert not (tmp_path / CANARY).exists()
    if isinstance(result, DeltadexError):
        assert result.hint
        assert "See the log" not in result.hint, result.message


def test_a_chain_with_a_hostile_adapter_ends_with_a_reason(base: Path, models: dict[str, Path], tmp_path: Path) -> None:
    lower = Path(shutil.copytree(models["adapter"], tmp_path / "lower"))
    tensors(lambda t: {n: x * torch.nan for n, x in t.items()})(lower)
    both = chain(inspect(LocalFiles(models["adapter"])), inspect(LocalFiles(lower))).fetch()
    with pytest.raises(BrokenCheckpoint, match="lower holds NaN"):
        check_fit(both, local(base))
