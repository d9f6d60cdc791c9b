"""Training of the finetunes with known parents, and merging, with transformers and peft."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedModel

from benchmarks.real.lineage_specification import Descendant, KnownMerge
from benchmarks.real.pools import Finetune
from benchmarks.real.training import Workshop
from deltadex.demo import training

_SVD_RANK, _DENSITY = 8, 0.5


class Nursery:
    """Trains descendants, or returns those that were trained before."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._folder = workshop.folder / "lineage"

    def is_trained(self, one: Descendant | Finetune) -> bool:
        """Return whether a finetune was trained before."""
        return self._workshop.is_trained(one) if isinstance(one, Finetune) else (self._folder / one.name).exists()

    def folder(self, one: Descendant | Finetune) -> Path:
        """Return the folder of a finetune, trained now if it was not before."""
        if isinstance(one, Finetune):
            return self._workshop.finetune(one)
        folder = self._folder / one.name
        if not folder.exists():
            unfinished = folder.with_name(f".{one.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            model = self._start(one)
            self._workshop.teach(model, one.made)
            if one.is_full:
                model.to(torch.bfloat16)  # as most are kept
            training.save(model, unfinished)
            unfinished.rename(folder)
        return folder

    def _start(self, one: Descendant) -> PreTrainedModel | PeftModel:
        if one.parent is None:
            return self._workshop.start(one.made)
        before = self.folder(one.parent)
        if one.is_full:
            return training.load_base(before)
        model = PeftModel.from_pretrained(training.load_base(self._workshop.base), str(before), is_trainable=True)
        model.peft_config["default"].inference_mode = False
        return model


class Mergery:
    """Makes merges, or returns those that were made before."""

    def __init__(self, workshop: Workshop, nursery: Nursery) -> None:
        self._workshop, self._nursery = workshop, nursery
        self._folder = workshop.folder / "lineage"

    def folder(self, one: KnownMerge) -> Path:
        """Return the folder of a merge."""
        folder = self._folder / one.name
        if not folder.exists():
            unfinished = folder.with_name(f".{one.name}")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            parents = [self._nursery.folder(parent) for parent in one.parents]
            if one.method == "full":
                self._mean(parents, one.weights, unfinished)
            elif one.method == "svd":
                _by_singular_values(parents, one.weights, unfinished)
            else:
                self._by_peft(parents, one, unfinished)
            unfinished.rename(folder)
        return folder

    def _mean(self, parents: Sequence[Path], weights: Sequence[float], into: Path) -> None:
        models = [training.load_base(parent) for parent in parents]
        states = [model.state_dict() for model in models]
        mixed = {
            name: torch.stack([weight * state[name] for weight, state in zip(weights, states, strict=True)]).sum(0)
            for name in states[0]
        }
        models[0].load_state_dict(mixed)
        training.save(models[0].to(torch.bfloat16), into)

    def _by_peft(self, parents: Sequence[Path], one: KnownMerge, into: Path) -> None:
        model = training.load_adapter(self._workshop.base, parents[0])
        names = ["default", *(f"parent{number}" for number in range(1, len(parents)))]
        for name, parent in zip(names[1:], parents[1:], strict=True):
            model.load_adapter(str(parent), name)
        settings = {"density": _DENSITY} if one.method in ("ties", "dare_linear") else {}
        torch.manual_seed(0)
        model.add_weighted_adapter(names, list(one.weights), "merged", combination_type=one.method, **settings)
        model.save_pretrained(str(into), selected_adapters=["merged"], save_embedding_layers=False)
        for file in list((into / "merged").iterdir()):
            file.rename(into / file.name)
        (into / "merged").rmdir()


def _by_singular_values(parents: Sequence[Path], weights: Sequence[float], into: Path) -> None:
    """Write the best adapter of rank 8 of the weighted sum, as peft's `svd` finds it, without the whole product."""
    tensors = [load_file(parent / "adapter_model.safetensors") for parent in parents]
    merged = {}
    for name in (name for name in tensors[0] if ".lora_A." in name):
        up = name.replace("lora_A", "lora_B")
        left = np.concatenate([weight * one[up] for weight, one in zip(weights, tensors, strict=True)], 1)
        right = np.concatenate([one[name] for one in tensors])
        first, upper = np.linalg.qr(left)
        second, lower = np.linalg.qr(right.T)
        u, strengths, vt = np.linalg.svd(upper @ lower.T)
        merged[up] = np.ascontiguousarray((first @ u)[:, :_SVD_RANK] * strengths[:_SVD_RANK])
        merged[name] = np.ascontiguousarray((second @ vt.T).T[:_SVD_RANK])
    save_file(merged, into / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((parents[0] / "adapter_config.json").read_text())
    (into / "adapter_config.json").write_text(json.dumps(config))
