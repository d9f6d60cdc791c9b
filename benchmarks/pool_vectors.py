"""Vectors for comparing the pools' finetunes: Delta Activations (ours and as published), outputs and weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.pool_training import Workshop
from benchmarks.pools import Finetune, Method
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.demo import training
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.messages import BaseModel
from deltadex.engine.messages import Finetune as Embeddable
from deltadex.engine.probes import PAPER_PROBES
from deltadex.errors import DeltadexError

Matrix = NDArray[np.float64]
#: Tokens that a finetune generates after each probe.
OUTPUT_TOKENS = 24
#: Compared ranks; factors above the rank of an adapter are zero.
_FACTORS = 32
_ADAPTED, _WHOLE = "adapter_model.safetensors", "model.safetensors"


@dataclass(frozen=True, eq=False)
class Measured:
    """Measured vectors of one finetune; float32.

    Attributes
    ----------
    ours
        `(n_probes, hidden_size)`: probe deltas, as `deltadex embed` computes them.
    published
        `(n_probes, layers + 1, 2, hidden_size)`: the published algorithm's difference to the base after every layer
        (the last one after the final norm), at the last token and as the mean over all tokens.
    output
        `(hidden_size,)`: mean last hidden state of the base over the finetune's continuations of the probes.
    """

    ours: NDArray[np.float32]
    published: NDArray[np.float32]
    output: NDArray[np.float32]


def measure(workshop: Workshop, base: str, finetunes: Sequence[Finetune]) -> list[Measured]:
    """Measure finetunes of one base; measurements are cached beside the models."""
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    files = [workshop.finetune(one) / f"measured-{code}.npz" for one in finetunes]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    if missing:
        folders = [files[number].parent for number in missing]
        states = _States(workshop.base(base))
        for file, ours in zip([files[number] for number in missing], _ours(workshop.base(base), folders), strict=True):
            workshop.begin(f"measuring {file.parent.name}")
            published, output = states.of(file.parent)
            np.savez(file, ours=ours, published=published, output=output)
    return [Measured(**dict(np.load(file))) for file in files]


def _ours(base: Path, folders: Iterable[Path]) -> list[NDArray[np.float32]]:
    checkpoints = [_checkpoint(folder) for folder in folders]
    of_base = _checkpoint(base)
    embedder = Base(BaseModel(of_base, weights_digest(of_base), "float32"))
    deltas: dict[int, NDArray[np.float32]] = {}
    for number, result in embedder.embed([Embeddable(one, weights_digest(one)) for one in checkpoints]):
        if isinstance(result, DeltadexError):
            raise result
        deltas[number] = result.probe_deltas
    return [deltas[number] for number in range(len(checkpoints))]


def _checkpoint(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


class _States:
    """Reads models with transformers alone, one probe at a time, like the released scripts of arXiv 2509.04442."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base = training.load_base(folder).eval()
        self._tokenizer: PreTrainedTokenizerFast = training.load_tokenizer(folder)
        self._of_base = self._read(self._base)

    def of(self, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the differences to the base, and the output embedding."""
        if (folder / _ADAPTED).exists():
            model = training.load_adapter(self._folder, folder).merge_and_unload().eval()
        else:
            model = training.load_base(folder).eval()
        outputs = [self._output(model, probe) for probe in PAPER_PROBES.probes]
        return self._read(model) - self._of_base, np.mean(outputs, axis=0)

    def _read(self, model: LlamaForCausalLM) -> NDArray[np.float32]:
        states = []
        for probe in PAPER_PROBES.probes:
            tokens = self._tokenizer(probe, return_tensors="pt", truncation=True, max_length=PAPER_PROBES.max_tokens)
            with torch.inference_mode():
                layers = model(**tokens, output_hidden_states=True).hidden_states
            states.append(np.stack([np.stack([one[0, -1].numpy(), one[0].mean(0).numpy()]) for one in layers]))
        return np.stack(states)

    def _output(self, model: LlamaForCausalLM, prompt: str) -> NDArray[np.float32]:
        prompt_ids = self._tokenizer(prompt, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            generated = model.generate(
                input_ids=prompt_ids, attention_mask=torch.ones_like(prompt_ids), do_sample=False,
                min_new_tokens=OUTPUT_TOKENS, max_new_tokens=OUTPUT_TOKENS,
            )  # fmt: skip
            states = self._base.model(input_ids=generated[:, prompt_ids.shape[1] :]).last_hidden_state
        return np.asarray(states[0].mean(dim=0).numpy())


def weight_similarities(workshop: Workshop, base: str, finetunes: Sequence[Finetune]) -> dict[str, Matrix]:
    """Return `(n, n)` cosine similarities of flattened weights in three forms.

    - raw: the stored matrices A and B of the adapters, padded with zeros to one rank; only if all models are adapters;
    - canonical: A and B from the singular value decomposition of their product, by QR for an adapter, with the largest
      entry of each left vector positive. Every A and B with the same product give the same vector;
    - product: B·A, or the difference to the base's weights.
    """
    base_tensors = load_file(workshop.base(base) / _WHOLE)
    stored = [_tensors(workshop.finetune(one)) for one in finetunes]
    forms = ["raw", "canonical", "product"] if _all_adapters(finetunes) else ["canonical", "product"]
    grams = {form: np.zeros((len(stored), len(stored))) for form in forms}
    for name in [name for name in base_tensors if name.endswith("_proj.weight")]:
        factors = [_factors(tensors, base_tensors, name) for tensors in stored]
        for form in forms:
            rows = np.stack([_FORMS[form](*pair) for pair in factors])
            grams[form] += rows @ rows.T
    return {f"weights, {form}": _cosine(gram) for form, gram in grams.items()}


def _all_adapters(finetunes: Iterable[Finetune]) -> bool:
    return all(one.method in (Method.ADAPTER, Method.DPO) for one in finetunes)


def _tensors(folder: Path) -> Mapping[str, NDArray[np.float32]]:
    adapter = folder / _ADAPTED
    return load_file(adapter if adapter.exists() else folder / _WHOLE)


def _factors(
    tensors: Mapping[str, NDArray[np.float32]], base: Mapping[str, NDArray[np.float32]], name: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return B `(out, r)` and A `(r, in)` whose product is the finetune's change of the base's weights."""
    stem = f"base_model.model.{name.removesuffix('.weight')}"
    if name in tensors:
        difference = tensors[name] - base[name]
        return difference, np.eye(difference.shape[1], dtype=np.float32)
    return 2 * tensors[f"{stem}.lora_B.weight"], tensors[f"{stem}.lora_A.weight"]  # alpha is 2 r


def _raw(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    missing = _FACTORS - left.shape[1]
    return np.concatenate([np.pad(left, ((0, 0), (0, missing))).ravel(), np.pad(right, ((0, missing), (0, 0))).ravel()])


def canonical(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a vector that is equal for all `left` `(out, r)` and `right` `(r, in)` with the same product."""
    first, upper = np.linalg.qr(left)
    second, lower = np.linalg.qr(right.T)
    u, strengths, vt = np.linalg.svd(upper @ lower.T)
    count = min(_FACTORS, len(strengths))
    roots = np.sqrt(strengths[:count])
    out, into = first @ u[:, :count] * roots, (second @ vt[:count].T) * roots
    signs = np.sign(out[np.abs(out).argmax(axis=0), np.arange(count)])
    return _raw(out * signs, (into * signs).T)


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    return (left @ right).ravel()


_FORMS = {"raw": _raw, "canonical": canonical, "product": _product}


def _cosine(gram: Matrix) -> Matrix:
    lengths = np.sqrt(np.diag(gram))
    return np.clip(gram / np.outer(lengths, lengths), -1, 1)


def describe(finetunes: Iterable[Finetune]) -> Iterator[dict[str, object]]:
    """Yield the settings and other facts of each finetune as JSON values."""
    for one in finetunes:
        yield {**one.settings, "domain": one.domain, "part": one.part, "source": one.source.value,
               "method": one.method.value, "in_turn": one.in_turn, "seed": one.seed, "base": one.base}  # fmt: skip
