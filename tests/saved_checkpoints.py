"""Saved checkpoints, changed afterwards, and their embeddings as `deltadex embed` computes them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from deltadex.checkpoints.digest import identical_tensors, weights_digest
from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.errors import DeltadexError
from deltadex.types import Embedding
from tests import language_models, many_models, tiny_models

LLAMA, BERT, T5, MIXTRAL = "LlamaForCausalLM", "BertForMaskedLM", "T5ForConditionalGeneration", "MixtralForCausalLM"
IDS = {"vocab_size": tiny_models.VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}

#: Marks of tests that save and load such checkpoints: peft warns of what they are about.
EXPECTED_WARNINGS = [
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Unable to fetch remote file:UserWarning"),
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
]

Tensors = dict[str, torch.Tensor]


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def built(name: str, config: transformers.PreTrainedConfig, folder: Path) -> Path:
    """Save a randomly initialised model of a class of transformers with a tokenizer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return many_models.save(getattr(transformers, name)(config), folder)


def embedding(base: Path, finetune: Path, *, states: Path | None = None) -> Embedding:
    """Embed as `deltadex embed` does, in this process."""
    ours, theirs = local(finetune), local(base)
    check_fit(ours, theirs)
    identical = identical_tensors(ours, theirs) if ours.kind is Kind.FULL else frozenset()
    engine = Base(BaseModel(theirs, weights_digest(theirs), "float32", states))
    ((_, outcome),) = engine.embed([Finetune(ours, weights_digest(ours), identical)])
    if isinstance(outcome, DeltadexError):
        raise outcome
    return outcome


def deltas(base: Path, finetune: Path) -> np.ndarray:
    return embedding(base, finetune).probe_deltas


def adapter(name: str, base: Path, folder: Path, *, strength: float = 0.1, **lora: object) -> Path:
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **lora})
    many_models.attach(many_models.load(name, base), config, strength=strength).save_pretrained(folder)
    return folder


def full(name: str, base: Path, folder: Path) -> Path:
    return many_models.build_finetune(language_models.class_of(name), base, folder, strength=0.01)


def edit(folder: Path, *, drop: str = "", **changes: object) -> None:
    file = folder / ("config.json" if (folder / "config.json").exists() else "adapter_config.json")
    content = {name: value for name, value in json.loads(file.read_text()).items() if name != drop}
    file.write_text(json.dumps({**content, **changes}))


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = next(folder.glob("*.safetensors"))
    content = {name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}
    save_file(content, file, metadata={"format": "pt"})


def rename(folder: Path, change: Callable[[str], str]) -> None:
    rewrite(folder, lambda tensors: {change(name): tensor for name, tensor in tensors.items()})


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))
