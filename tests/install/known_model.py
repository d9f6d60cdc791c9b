"""A base and a finetune with weights from a formula, so that their embedding is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaForCausalLM

from tests.tiny_models import build_tokenizer, llama_config

#: The first numbers and the norm of the embedding, by the published algorithm over transformers' own forward pass.
FIRST = (0.353850, 0.183593, 0.180752, 0.371761, 0.196073, -0.093527)
NORM = 1.328555
#: Of the norm. Processors and builds of torch differ in the last bits.
TOLERANCE = 1e-4


def build_known_models(folder: Path) -> tuple[Path, Path]:
    """Save both and return `(base, finetune)`."""
    base, finetune = folder / "base", folder / "finetune"
    _save(base, change=0.0)
    _save(finetune, change=0.02)
    return base, finetune


def _save(folder: Path, *, change: float) -> None:
    model = LlamaForCausalLM(llama_config())
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters(), start=1):
            places = np.arange(parameter.numel(), dtype=np.float64)
            values = np.sin(places * (0.7 + number / 10)) * 0.1 + (1.0 if parameter.ndim == 1 else 0.0)
            values += np.cos(places * (0.3 + number / 7)) * change
            parameter.copy_(torch.from_numpy(values).reshape(parameter.shape))
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
