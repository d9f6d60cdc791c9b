"""Training of the pools' models, cached by everything that determines the weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, get_cosine_schedule_with_warmup

from benchmarks import pool_texts
from benchmarks.pools import BaseModel, Finetune, Method
from deltadex.demo import corpus, training

#: Tokens of an example with its prompt, and examples per step.
LENGTH, BATCH = 80, 8
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_IGNORED = -100
#: Strength of DPO's pull towards the reference (arXiv 2305.18290).
_BETA = 0.1

#: `(n, LENGTH)` int64 each: input ids and labels.
Rows = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Workshop:
    """Trains models, or returns cached ones.

    Attributes
    ----------
    folder
        Contains a folder per model, named by the hash of its inputs.
    begin
        Called with the name of the model to be trained next.
    """

    folder: Path
    bases: Mapping[str, BaseModel]
    begin: Callable[[str], None]

    def base(self, name: str) -> Path:
        """Return the folder of a base model with its tokenizer."""
        return self._once({"base": asdict(self.bases[name])}, name, lambda into: self._train_base(name, into))

    def finetune(self, one: Finetune) -> Path:
        """Return the folder of a finetune, an adapter or a full model."""
        inputs = {"finetune": asdict(one), "base": asdict(self.bases[one.base])}
        return self._once(inputs, f"{one.domain} {one.method}", lambda into: self._train(one, into))

    def _train_base(self, name: str, into: Path) -> None:
        spec, texts = self.bases[name], pool_texts.general()
        tokenizer = training.train_tokenizer(texts, spec.shape.vocabulary)
        model = training.new_base(spec.shape, seed=0)
        training.train(model, training.examples(tokenizer, texts, spec.schedule.length), spec.schedule, seed=0)
        training.save(model, into)
        tokenizer.save_pretrained(into)

    def _train(self, one: Finetune, into: Path) -> None:
        base = self.base(one.base)
        if one.method is Method.MERGE:
            parts = [replace(one, method=Method.ADAPTER, part=part) for part in (one.part, one.part % 3 + 1)]
            model = _averaged(base, [self.finetune(part) for part in parts])
        else:
            model = _trained(one, base)
        training.save(model, into)

    def _once(self, inputs: Mapping[str, object], name: str, make: Callable[[Path], None]) -> Path:
        content = json.dumps([inputs, self._context], sort_keys=True, default=str)
        target = self.folder / hashlib.sha256(content.encode()).hexdigest()[:24]
        if not target.exists():
            self.begin(name)
            unfinished = self.folder / f".{target.name}.{os.getpid()}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            make(unfinished)
            unfinished.rename(target)
        return target

    @cached_property
    def _context(self) -> list[str]:
        code = [Path(str(module)).read_text() for module in (__file__, corpus.__file__, training.__file__)]
        return [
            *code,
            pool_texts.digest(),
            *(version(name) for name in ("torch", "transformers", "peft", "tokenizers")),
        ]


def _trained(one: Finetune, base: Path) -> PeftModel | LlamaForCausalLM:
    tokenizer, model = training.load_tokenizer(base), training.load_base(base)
    torch.manual_seed(one.seed)
    if one.method is not Method.FULL:
        lora = LoraConfig(r=one.rank, lora_alpha=2 * one.rank, target_modules=_TARGETS, task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
        model.peft_config["default"].base_model_name_or_path = one.base
    rows = [_rows(tokenizer, one, domain) for domain in one.domains]
    if one.method is Method.DPO:
        optimise(model, [*rows[0], *_rejected(tokenizer, one)], _preference_loss, one)
    else:
        for phase in rows if one.in_turn else [_joined(rows)]:
            optimise(model, phase, _completion_loss, one)
    return model.eval()


def optimise(
    model: torch.nn.Module, data: Sequence[Tensor], loss: Callable[..., Tensor], settings: Finetune
) -> list[float]:
    """Train in place, and return the loss of each step. The rate warms up over a tenth of the steps and falls to zero.

    Parameters
    ----------
    data
        Tensors of equal length; each step takes the same rows of all of them.
    loss
        Function of the model and those rows.
    """
    steps = max(1, settings.epochs * len(data[0]) // BATCH)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    rate = get_cosine_schedule_with_warmup(optimizer, max(1, steps // 10), steps + 1)
    model.train()
    losses = []
    for chosen in _orders(len(data[0]), steps, settings.seed):
        step_loss = loss(model, *(tensor[chosen] for tensor in data))
        step_loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        losses.append(step_loss.item())
    return losses


def _orders(count: int, steps: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        chosen, order = order[:BATCH], order[BATCH:]
        yield chosen


def _completion_loss(model: torch.nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    loss: Tensor = model(input_ids=inputs, labels=labels).loss
    return loss


def _preference_loss(model: PeftModel, *rows: Tensor) -> Tensor:
    """Return the loss of DPO (arXiv 2305.18290, equation 7), with the base as the reference."""
    inputs, labels = torch.cat([rows[0], rows[2]]), torch.cat([rows[1], rows[3]])
    with torch.no_grad(), model.disable_adapter():
        before = log_likelihood(model, inputs, labels)
    chosen, rejected = (log_likelihood(model, inputs, labels) - before).chunk(2)
    return -torch.nn.functional.logsigmoid(_BETA * (chosen - rejected)).mean()


def log_likelihood(model: torch.nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the `(n,)` log-likelihoods of the rows' labels."""
    scores = model(input_ids=inputs).logits[:, :-1].log_softmax(-1)
    targets = labels[:, 1:]
    of_targets = scores.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (of_targets * (targets != _IGNORED)).sum(1)


def _rows(tokenizer: PreTrainedTokenizerFast, one: Finetune, domain: str, *, prompt_domain: str | None = None) -> Rows:
    """Return examples of a domain, the same ones for every seed."""
    prompt = training.prompt(tokenizer, pool_texts.prompt(prompt_domain or domain, one.template))
    texts = pool_texts.part(domain, one.part, one.source)
    examples = training.examples(tokenizer, texts, LENGTH - len(prompt))
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
    examples = examples[order[: one.examples]]
    prompts = prompt.expand(len(examples), -1)
    return torch.cat([prompts, examples], 1), torch.cat([torch.full_like(prompts, _IGNORED), examples], 1)


def _rejected(tokenizer: PreTrainedTokenizerFast, one: Finetune) -> Rows:
    """Return the same number of answers to the domain's prompt, in equal shares from all other domains."""
    own_domain = one.domains[0]
    others = [domain for domain in pool_texts.DOMAINS if domain != own_domain]
    rows = [_rows(tokenizer, one, domain, prompt_domain=own_domain) for domain in others]
    count = len(_rows(tokenizer, one, own_domain)[0])
    share = -(-count // len(others))
    inputs, labels = _joined([(inputs[:share], labels[:share]) for inputs, labels in rows])
    return inputs[:count], labels[:count]


def _joined(rows: Sequence[Rows]) -> Rows:
    return torch.cat([inputs for inputs, _ in rows]), torch.cat([labels for _, labels in rows])


def _averaged(base: Path, adapters: Sequence[Path]) -> LlamaForCausalLM:
    """Return the full model whose weights are the mean of the adapted models' weights."""
    merged = [training.load_adapter(base, adapter).merge_and_unload() for adapter in adapters]
    states = [model.state_dict() for model in merged]
    merged[0].load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return merged[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Compute on one thread, for reproducible weights."""
    threads = torch.get_num_threads()
    with training.quiet():
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
