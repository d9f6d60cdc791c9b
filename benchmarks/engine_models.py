"""Models and programs of the engine's benchmark.

The models have real shapes and random weights, which are written one tensor at a time. Each program runs in its own
process, `python -m benchmarks.engine_models TASK`, and prints its results as its last line.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.demo import training
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.probes import PAPER_PROBES
from deltadex.engine.readout import Prompts, Readout, read
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.types import Embedding

#: Called with the name of the file to be written next.
Progress = Callable[[str], None]

_ADAPTERS = 32
_SHARD_BYTES = 5 << 30
#: Standard deviations: of weights, as transformers initialises them, and of the finetunes' changes.
_WEIGHTS, _CHANGE, _ADAPTER_CHANGE = 0.02, 0.001, 0.01
_ATTENTION, _MLP = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
#: Target modules of the adapters, used in turn.
_TARGETS = (["q_proj", "v_proj"], _ATTENTION, _MLP, _ATTENTION + _MLP)


@dataclass(frozen=True)
class Shape:
    """Shape of a Llama model with weights in bfloat16."""

    name: str
    hidden_size: int
    layers: int
    intermediate_size: int
    heads: int
    key_value_heads: int
    vocabulary: int = 128256
    tied: bool = True

    @property
    def config(self) -> LlamaConfig:
        """Config for transformers."""
        return LlamaConfig(
            vocab_size=self.vocabulary, hidden_size=self.hidden_size, intermediate_size=self.intermediate_size,
            num_hidden_layers=self.layers, num_attention_heads=self.heads, num_key_value_heads=self.key_value_heads,
            tie_word_embeddings=self.tied, bos_token_id=0, eos_token_id=1,
            architectures=["LlamaForCausalLM"], dtype="bfloat16",
        )  # fmt: skip

    def on_meta(self) -> LlamaForCausalLM:
        """Return a model on the meta device."""
        with torch.device("meta"):
            return LlamaForCausalLM(self.config)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the stored tensors by name."""
        return {name: tuple(parameter.shape) for name, parameter in self.on_meta().named_parameters()}

    @property
    def nbytes(self) -> int:
        """Size of a checkpoint in bytes."""
        return sum(_nbytes(shape) for shape in self.tensors().values())


#: Llama 3.2 1B, Llama 3.1 8B, and one for trying out the benchmark.
SHAPES = {
    "100m": Shape("100m", 768, 12, 2048, 12, 4, vocabulary=32000),
    "1b": Shape("1b", 2048, 16, 8192, 32, 8),
    "8b": Shape("8b", 4096, 32, 14336, 32, 8, tied=False),
}


@dataclass(frozen=True)
class Task:
    """Task of a process: `program` is a name in `PROGRAMS`, and paths are strings."""

    program: str
    base: str
    finetunes: tuple[str, ...] = ()
    dtype: str = "float32"
    states: str | None = None


@dataclass(frozen=True)
class Models:
    """Folders of checkpoints: a base, a full finetune of it, and adapters on it."""

    base: Path
    finetune: Path
    adapters: tuple[Path, ...]

    @property
    def nbytes(self) -> int:
        """Size of the finetune's weights in bytes."""
        return sum(file.stat().st_size for file in self.finetune.glob("*.safetensors"))


def build(folder: Path, shape: Shape, progress: Progress) -> Models:
    """Write the models into a subfolder for the shape, unless they exist.

    Raises
    ------
    SystemExit
        The disk has no space for three checkpoints.
    """
    home = folder / shape.name
    adapters = tuple(home / f"adapter-{number}" for number in range(_ADAPTERS))
    models = Models(home / "base", home / "finetune", adapters)
    done = home / "complete"
    if done.exists():
        return models
    home.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(home).free < 3 * shape.nbytes:
        raise SystemExit(f"{home} needs {3 * shape.nbytes / 1e9:.0f} GB of free disk")
    for checkpoint, change in ((models.base, 0.0), (models.finetune, _CHANGE)):
        _write_model(checkpoint, shape, change=change, progress=progress)
    for number, checkpoint in enumerate(adapters):
        progress(checkpoint.name)
        _write_adapter(checkpoint, shape, models.base, number=number)
    done.touch()
    return models


def _write_model(folder: Path, shape: Shape, *, change: float, progress: Progress) -> None:
    folder.mkdir(exist_ok=True)
    shape.config.save_pretrained(folder)
    training.train_tokenizer(PAPER_PROBES.probes, shape.vocabulary).save_pretrained(folder)
    shards = list(_shards(shape.tensors()))
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for file, tensors in zip(names if len(shards) > 1 else ["model.safetensors"], shards, strict=True):
        progress(f"{folder.name}/{file}")
        _write_safetensors(folder / file, tensors, change=change)
    if len(shards) > 1:
        weight_map = {name: file for file, tensors in zip(names, shards, strict=True) for name in tensors}
        index = {"metadata": {"total_size": shape.nbytes}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _shards(tensors: Mapping[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    for name, shape in tensors.items():
        if shard and sum(map(_nbytes, shard.values())) + _nbytes(shape) > _SHARD_BYTES:
            yield shard
            shard = {}
        shard[name] = shape
    yield shard


def _write_safetensors(file: Path, tensors: Mapping[str, tuple[int, ...]], *, change: float) -> None:
    """Write random tensors one after another; the library needs all of them in memory."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + _nbytes(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    header_bytes = json.dumps(header).encode()
    header_bytes += b" " * (-len(header_bytes) % 8)
    with file.open("wb") as stream:
        stream.write(len(header_bytes).to_bytes(8, "little") + header_bytes)
        for name, shape in tensors.items():
            stream.write(_weights(name, shape, change=change).view(torch.int16).numpy().data)


def _weights(name: str, shape: tuple[int, ...], *, change: float) -> torch.Tensor:
    weights = torch.ones(shape) if len(shape) == 1 else _random(name, shape, deviation=_WEIGHTS)
    if change:
        weights += _random(f"change of {name}", shape, deviation=change)
    return weights.to(torch.bfloat16)


def _write_adapter(folder: Path, shape: Shape, base: Path, *, number: int) -> None:
    targets = _TARGETS[number % len(_TARGETS)]
    config = LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM")
    with training.quiet():
        model = get_peft_model(shape.on_meta(), config)
    config.base_model_name_or_path, config.inference_mode = str(base), True
    config.save_pretrained(str(folder))
    shapes = {name: tuple(tensor.shape) for name, tensor in get_peft_model_state_dict(model).items()}
    tensors = {name: _lora(f"{number} {name}", size) for name, size in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors")


def _lora(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    deviation = _ADAPTER_CHANGE if "lora_B" in name else 1 / math.sqrt(3 * shape[1])
    return _random(name, shape, deviation=deviation).to(torch.bfloat16)


def _random(name: str, shape: tuple[int, ...], *, deviation: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(shape, generator=generator).mul_(deviation)


def _nbytes(shape: tuple[int, ...]) -> int:
    return 2 * math.prod(shape)


def checkpoint(folder: str | Path) -> LocalCheckpoint:
    """Return the checkpoint in a folder, inspected like in the pipeline."""
    return inspect(LocalFiles(Path(folder))).fetch()


def base_model(task: Task) -> BaseModel:
    """Return the base of a task, with its path as the digest, because computing the digest would read the file."""
    return BaseModel(checkpoint(task.base), task.base, task.dtype, Path(task.states) if task.states else None)


def _ours(task: Task) -> dict[str, Any]:
    """Embed all finetunes together."""
    started = time.perf_counter()
    base = Base(base_model(task))
    finetunes = [Finetune(checkpoint(one), one) for one in task.finetunes]
    embeddings = [_embedding(result) for _, result in base.embed(finetunes)]
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "vectors": [one.vector.tolist() for one in embeddings],
        "strength": embeddings[0].strength,
        "noise_floor": base.states().noise_floor,
    }


def _ours_one_by_one(task: Task) -> dict[str, Any]:
    """Embed finetunes one by one; the first one warms the base up and is not timed."""
    base, seconds = Base(base_model(task)), []
    for folder in task.finetunes:
        started = time.perf_counter()
        for _, result in base.embed([Finetune(checkpoint(folder), folder)]):
            _embedding(result)
        seconds.append(time.perf_counter() - started)
    return {"seconds": median(seconds[1:])}


def _embedding(result: object) -> Embedding:
    if isinstance(result, Exception):
        raise result
    assert isinstance(result, Embedding)  # noqa: S101
    return result


def _published(task: Task) -> dict[str, Any]:
    """Load and read the base, then load and read the finetune beside it."""
    started = time.perf_counter()
    tokenizer, base = AutoTokenizer.from_pretrained(task.base), _load(task.base, task)
    before, known = _read_one_by_one(base, tokenizer), time.perf_counter()
    finetune = _load(task.finetunes[0], task)
    after, ended = _read_one_by_one(finetune, tokenizer), time.perf_counter()
    vectors = [(after - before).mean(0).tolist()]
    return {"seconds": ended - started, "finetune_seconds": ended - known, "vectors": vectors}


def _published_adapters(task: Task) -> dict[str, Any]:
    """Time each adapter on a base that is loaded again, and on a base that stays loaded and unloads it afterwards."""
    tokenizer, reloading, staying = AutoTokenizer.from_pretrained(task.base), [], []
    for folder in task.finetunes:
        started = time.perf_counter()
        _read_one_by_one(PeftModel.from_pretrained(_load(task.base, task), folder), tokenizer)
        reloading.append(time.perf_counter() - started)
    base = _load(task.base, task)
    for folder in task.finetunes:
        started = time.perf_counter()
        adapted = PeftModel.from_pretrained(base, folder)
        _read_one_by_one(adapted, tokenizer)
        base = adapted.unload()
        staying.append(time.perf_counter() - started)
    return {"seconds": median(reloading), "staying_seconds": median(staying)}


def _load(folder: str, task: Task) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, task.dtype), local_files_only=True).eval()


def _read_one_by_one(model: Any, tokenizer: Any) -> torch.Tensor:
    states = []
    for probe in PAPER_PROBES.probes:
        inputs = tokenizer(probe, return_tensors="pt", truncation=True, max_length=PAPER_PROBES.max_tokens)
        with torch.no_grad():
            output = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], output_hidden_states=True
            )
        states.append(output.hidden_states[-1][0, -1].float())
    return torch.stack(states)


def _library_pass(task: Task) -> dict[str, Any]:
    """Time one pass of the probes as one batch, without logits, with the transformers model in memory."""
    model, prompts = _load(task.base, task), _prompts(task)
    with torch.inference_mode():
        return {"seconds": _median_seconds(lambda: read(model, prompts))}


def _products(task: Task) -> dict[str, Any]:
    """Time the matrix products of all layers, using the weights of two layers, which exceed the CPU's caches."""
    dtype, tokens = getattr(torch, task.dtype), _prompts(task).ids.numel()
    tensors = checkpoint(task.base).tensors()
    shapes = [tensor.shape for name, tensor in tensors.items() if re.search(r"layers\.[01]\..*_proj\.", name)]
    layers = LlamaConfig.from_pretrained(task.base).num_hidden_layers
    pairs = [(torch.ones(tokens, shape[1], dtype=dtype), torch.ones(shape, dtype=dtype)) for shape in shapes]
    with torch.inference_mode():
        seconds = _median_seconds(lambda: [torch.nn.functional.linear(*pair) for pair in pairs])
    return {"seconds": seconds * layers / 2}


def _prompts(task: Task) -> Prompts:
    return Prompts.tokenize(AutoTokenizer.from_pretrained(task.base), PAPER_PROBES, Readout.LAST_TOKEN)


def _median_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])


PROGRAMS: Mapping[str, Callable[[Task], dict[str, Any]]] = {
    "ours": _ours,
    "ours one by one": _ours_one_by_one,
    "published": _published,
    "published adapters": _published_adapters,
    "library pass": _library_pass,
    "products": _products,
    "imports": lambda _: {},
}


if __name__ == "__main__":
    task = Task(**json.loads(sys.argv[1]))
    sys.stdout.write(f"\n{json.dumps(PROGRAMS[task.program](task))}\n")
