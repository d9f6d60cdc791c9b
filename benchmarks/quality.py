"""How well embeddings tell domains apart, on the demo company's really trained adapters (issue 2).

Three embeddings of the same adapters, five domains × three disjoint splits, each scored by the silhouette over the
domains (cosine), beside the means that the paper reports for its three bases (arXiv 2509.04442, table 1):

- flattened adapter weights: all LoRA matrices A and B of an adapter, flattened, in one vector;
- output embeddings: each finetune continues the five probes greedily for `OUTPUT_TOKENS` tokens; the base reads each
  continuation alone; the mean over tokens of its last hidden state (after the final norm), the mean over the probes.
  The paper uses a sentence encoder here, which this machine has none of;
- Delta Activations, as `deltadex embed` computes them.

    python -m benchmarks.quality [--quick] [--folder FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file
from sklearn.metrics import silhouette_score
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from deltadex.activations.delta import Base
from deltadex.activations.job import BaseModel, Finetune
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.files import LocalFiles
from deltadex.checkpoints.layout import LocalCheckpoint, inspect
from deltadex.demo import Size, training
from deltadex.demo.company import Company, Model, build_specification
from deltadex.demo.specification import BASE, GRID, Method, Specification, specification
from deltadex.domain import Embedding
from deltadex.errors import DeltadexError
from deltadex.probes import PAPER_PROBES

Matrix = NDArray[np.float32]

#: Mean silhouettes over LLaMA-3.1-8B, Gemma-2-9B and Qwen-2.5-7B.
PAPER = {"flattened adapter weights": -0.043, "output embeddings": 0.087, "Delta Activations": 0.614}
OUTPUT_TOKENS = 48
QUICK_DOMAINS = ("sql", "legal", "cpp")


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes
    ----------
    silhouettes
        By method.
    similarities
        Cosine similarities of Delta Activations by what two adapters have in common.
    strengths
        Norm of each Delta Activation in units of the base's hidden state norm.
    adapters
        How many the silhouettes are over.
    """

    silhouettes: dict[str, float]
    similarities: dict[str, list[float]]
    strengths: list[float]
    adapters: int


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three domains and short trainings: under a minute")
    parser.add_argument("--folder", type=Path, default=user_cache_path("deltadex") / "demo", help="trained models")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    given = parser.parse_args(arguments)
    console = Console()
    result = measure(quick_specification() if given.quick else specification(Size.COMPANY), given.folder, console)
    show(result, console)
    if given.json:
        given.json.write_text(json.dumps(described(result), indent=2) + "\n", encoding="utf-8")


def quick_specification() -> Specification:
    """Return a company of nine adapters whose trainings are short."""
    company = specification(Size.COMPANY)
    return replace(
        company,
        name="quick",
        versions=tuple(version for version in GRID if version.domain in QUICK_DOMAINS),
        base=replace(company.base, steps=200),
        adapter=replace(company.adapter, steps=40, length=48),
        legacy=None,
    )


def measure(wanted: Specification, folder: Path, console: Console) -> Result:
    """Build the company in `folder`, or find it there, and measure."""
    with console.status("") as status:
        company = build_specification(folder, wanted, progress=lambda what, n, of: status.update(f"{what}: {n}/{of}"))
    with training.quiet():
        embeddings = dict(_embeddings(company))
        grid = [model for model in company.models if _in_grid(model)]
        outputs = _output_embeddings(company, grid)
    domains = [model.version.domain for model in grid]
    vectors = {
        "flattened adapter weights": np.stack([_flattened(model) for model in grid]),
        "output embeddings": outputs,
        "Delta Activations": np.stack([embeddings[model.version.label].vector for model in grid]),
    }
    return Result(
        silhouettes={
            name: float(silhouette_score(matrix, domains, metric="cosine")) for name, matrix in vectors.items()
        },
        similarities=_similarities(company.models, embeddings),
        strengths=[embedding.strength for embedding in embeddings.values()],
        adapters=len(grid),
    )


def _in_grid(model: Model) -> bool:
    """Tell the adapters that three teams trained on disjoint parts from copies, versions and special cases."""
    return model.version in GRID


def _embeddings(company: Company) -> Iterator[tuple[str, Embedding]]:
    checkpoint = _checkpoint(company.bases[BASE])
    models = [model for model in company.models if _is_embedded(model)]
    checkpoints = [_checkpoint(model.folder) for model in models]
    base = Base(BaseModel(checkpoint, weights_digest(checkpoint), "float32"))
    for number, result in base.embed([Finetune(one, weights_digest(one)) for one in checkpoints]):
        if isinstance(result, DeltadexError):
            raise result
        yield models[number].version.label, result


def _is_embedded(model: Model) -> bool:
    """Tell the models of the company's own base from copies and from what is wrong on purpose."""
    version = model.version
    return version.declared_base == BASE and not version.truncated and not version.copy_of


def _checkpoint(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def _flattened(model: Model) -> Matrix:
    tensors = load_file(model.folder / "adapter_model.safetensors")
    return np.concatenate([tensors[name].ravel() for name in sorted(tensors)])


def _output_embeddings(company: Company, models: Iterable[Model]) -> Matrix:
    folder = company.bases[BASE]
    base, tokenizer = training.load_base(folder).eval(), training.load_tokenizer(folder)
    rows = []
    for model in models:
        finetune = training.load_adapter(folder, model.folder).eval()
        rows.append(np.mean([_output_embedding(finetune, base, tokenizer, probe) for probe in PAPER_PROBES.probes], 0))
    return np.stack(rows)


def _output_embedding(
    finetune: PeftModel, base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str
) -> Matrix:
    """Return `(hidden_size,)`: the base's mean last hidden state over what `finetune` says after `prompt`."""
    read = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        said = finetune.generate(
            input_ids=read, attention_mask=torch.ones_like(read), do_sample=False,
            min_new_tokens=OUTPUT_TOKENS, max_new_tokens=OUTPUT_TOKENS,
        )  # fmt: skip
        states = base.model(input_ids=said[:, read.shape[1] :]).last_hidden_state
    return np.asarray(states[0].mean(dim=0).numpy())


def _similarities(models: Sequence[Model], embeddings: Mapping[str, Embedding]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {kind: [] for kind in ("same data, other seed", "same domain", "other domain")}
    adapters = [
        model.version for model in models if model.version.method is Method.ADAPTER and not model.version.copy_of
    ]
    for one, other in combinations(adapters, 2):
        same_domain, same_part = one.domain == other.domain, one.part == other.part
        kind = ("same data, other seed" if same_part else "same domain") if same_domain else "other domain"
        found[kind].append(_cosine(embeddings[one.label], embeddings[other.label]))
    return found


def _cosine(one: Embedding, other: Embedding) -> float:
    return float(one.vector @ other.vector) / (one.norm * other.norm)


def described(result: Result) -> dict[str, object]:
    """Return the result as JSON takes it."""
    return {**asdict(result), "paper": PAPER, "ratios": ratios(result)}


def ratios(result: Result) -> dict[str, tuple[float | None, float | None]]:
    """Return how many times higher Delta Activations score, here and in the paper; None over a score not above 0."""
    here, paper, delta = result.silhouettes, PAPER, "Delta Activations"
    return {
        f"{delta} / {other}": (_ratio(here[delta], here[other]), _ratio(paper[delta], paper[other]))
        for other in here
        if other != delta
    } | {f"{delta}, here / paper": (here[delta] / paper[delta], 1.0)}


def _ratio(one: float, other: float) -> float | None:
    return one / other if other > 0 else None


def show(result: Result, console: Console) -> None:
    console.print(_similarity_table(result))
    table = Table("silhouette over domains", "here", "paper", title=f"{result.adapters} adapters")
    for name, score in result.silhouettes.items():
        table.add_row(name, f"{score:.3f}", f"{PAPER[name]:.3f}")
    console.print(table)
    table = Table("ratio", "here", "paper")
    for name, (here, paper) in ratios(result).items():
        table.add_row(name, _times(here), _times(paper))
    console.print(table)


def _times(ratio: float | None) -> str:
    return "–, not above 0" if ratio is None else f"{ratio:.2f}"


def _similarity_table(result: Result) -> Table:
    table = Table("cosine similarity of two adapters", "pairs", "min", "median", "max")
    for kind, values in result.similarities.items():
        if values:
            low, middle, high = np.quantile(values, [0, 0.5, 1])
            table.add_row(kind, str(len(values)), f"{low:.3f}", f"{middle:.3f}", f"{high:.3f}")
    return table


if __name__ == "__main__":
    main()
