"""Gradient-free search of the weights of a sum of LoRA adapters on a few examples, after LoraHub (arXiv 2307.13269).

LoraHub sums the two factors of the adapters apart; here the updates themselves are summed, which has no cross terms and
is what a merge by `cat` holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn.functional import cross_entropy

from deltadex.engine.adapter_requests import FoundWeights, Weighting, WeightSearch
from deltadex.engine.delta import load_tokenizer
from deltadex.engine.examples import Example
from deltadex.engine.prompts import completion_ids, prompt_ids
from deltadex.engine.replies import batches, padded
from deltadex.engine.text_requests import TokenIds
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.several_adapters import attach, names_of
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.units import slots_of
from deltadex.errors import EmbeddingError, SettingsError, UnsupportedCheckpoint

#: The paper's: bound of a weight, and factor of the mean absolute weight in the objective.
BOUND, PENALTY = 1.5, 0.05
_BATCH, _IGNORED = 8, -100


def search(request: WeightSearch, *, on_tried: Callable[[int], None] = lambda _: None) -> FoundWeights:
    """Return the weights with the lowest objective: mean nats per token of the examples, and the penalty.

    The base alone, equal weights and each adapter alone are tried first, and count in the budget; the optimizer knows
    their losses. So what is found is never worse than they are, on the examples of the search.

    Parameters
    ----------
    on_tried
        Called with the number of weightings tried so far.

    Raises
    ------
    DeltadexError
        The models cannot be run, or nevergrad is not installed.
    """
    # An optional library; nothing else needs it.
    try:
        from nevergrad import optimizers, p
    except ImportError as error:
        raise SettingsError(
            "The search of weights needs the package nevergrad", hint="pip install 'deltadex[merge]'"
        ) from error

    scorer, count, tried = _Scorer.of(request), len(request.adapters), 0
    space = p.Array(init=[0.0] * count).set_bounds(-BOUND, BOUND)
    space.random_state.seed(request.seed)
    budget = max(request.budget, count + 2)
    optimizer = optimizers.NGOpt(parametrization=space, budget=budget)
    best = start = scorer.weighting((0.0,) * count, of_all=True)

    def known(weights: tuple[float, ...]) -> Weighting:
        measured = scorer.weighting(weights, of_all=True)
        optimizer.suggest(list(weights))
        with _quiet():
            optimizer.tell(optimizer.ask(), _objective(measured))
        return measured

    equal = known((1 / count,) * count)
    singles = tuple(known(tuple(float(at == number) for at in range(count))) for number in range(count))
    best = min((start, equal, *singles), key=_objective)
    for tried in range(count + 2, budget):
        on_tried(tried)
        with _quiet():
            candidate = optimizer.ask()
            measured = scorer.weighting(tuple(map(float, candidate.value)), of_all=False)
            optimizer.tell(candidate, _objective(measured))
        best = min(best, measured, key=_objective)
    return FoundWeights(scorer.weighting(best.weights, of_all=True), start, equal, singles, budget)


def _objective(one: Weighting) -> float:
    return one.nats + PENALTY * sum(map(abs, one.weights)) / len(one.weights)


def _quiet() -> warnings.catch_warnings[None]:
    """Hide warnings of the optimizers that nevergrad wraps."""
    return warnings.catch_warnings(action="ignore")


@dataclass(frozen=True)
class _Scorer:
    """A base with all adapters attached, and two sets of rows of tokens with their labels."""

    model: PeftModel
    seen: Sequence[tuple[Tensor, Tensor, Tensor]]
    held_out: Sequence[tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def of(cls, request: WeightSearch) -> _Scorer:
        stored = StoredModel(request.base.checkpoint)
        if stored.head is None:
            raise UnsupportedCheckpoint(f"{stored.checkpoint} does not generate text", hint="This needs a decoder.")
        device = Compute.resolve("float32", request.base.device).device
        compute = Compute(stored.load(stored.head).dtype, device)
        model = stored.new_model(device)
        slots = slots_of(model)
        stored.refuse_missing({slot.name for slot in slots} & stored.missing)
        for slot in slots:  # before the adapters: peft moves them to where the base's parameters are
            slot.fill(stored.load(slot.name).to(device, compute.dtype))
        peft = attach(model, request.adapters, compute=compute)
        peft.base_model.set_adapter(names_of(request.adapters), inference_mode=True)
        sets = (_batches(request, examples) for examples in (request.examples, request.held_out))
        return cls(peft, *sets)

    def weighting(self, weights: tuple[float, ...], *, of_all: bool) -> Weighting:
        """Return the losses of the sum with these weights; without `of_all` only of the examples of the search."""
        for layer in self.model.modules():
            if isinstance(layer, LoraLayer):
                for number, weight in enumerate(weights):
                    if f"parent{number}" in layer.scaling:
                        layer.set_scale(f"parent{number}", weight)
        measured = Weighting(weights, self._nats(self.seen))
        return replace(measured, held_out_nats=self._nats(self.held_out)) if of_all and self.held_out else measured

    @torch.inference_mode()
    def _nats(self, rows: Sequence[tuple[Tensor, Tensor, Tensor]]) -> float:
        total, tokens = 0.0, 0
        for ids, mask, labels in rows:
            logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1].float().flatten(0, 1)
            total += float(cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=_IGNORED, reduction="sum"))
            tokens += int((labels[:, 1:] != _IGNORED).sum())
        if not total < torch.inf:  # NaN, too
            raise EmbeddingError("The likelihoods are not finite", hint="Do the weights hold NaN?")
        return total / tokens


def _batches(request: WeightSearch, examples: Sequence[Example]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return ids, mask and labels of the examples in batches; only completions have labels."""
    checkpoint = request.base.checkpoint
    tokenizer, found = load_tokenizer(checkpoint), []
    device = Compute.resolve("float32", request.base.device).device
    ends: list[TokenIds] = [completion_ids(tokenizer, one)[: request.max_tokens // 2] for one in examples]
    starts = [
        prompt_ids(tokenizer, one)[-(request.max_tokens - len(end)) :] for one, end in zip(examples, ends, strict=True)
    ]
    rows = [(*start, *end) for start, end in zip(starts, ends, strict=True)]
    for numbers in batches([len(row) for row in rows], most=_BATCH):
        ids, mask = padded([rows[number] for number in numbers], 0, on_left=False)
        labels = torch.where(mask.bool(), ids, _IGNORED)
        for row, number in zip(labels, numbers, strict=True):
            row[: len(starts[number])] = _IGNORED
        found.append((ids.to(device), mask.to(device), labels.to(device)))
    return found
