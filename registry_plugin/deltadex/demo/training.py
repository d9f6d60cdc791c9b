"""Training small language models: a tokenizer, a base from scratch, LoRA adapters and full finetunes. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

#: Called after each step with the number of steps done.
StepDone = Callable[[int], None]

_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_IGNORED = -100


@dataclass(frozen=True)
class Shape:
    """A Llama of this size."""

    vocabulary: int = 2048
    hidden_size: int = 192
    layers: int = 4
    heads: int = 4
    intermediate_size: int = 512


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: linear warm-up over a tenth of the steps, then cosine to zero."""

    steps: int
    batch: int
    learning_rate: float


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer; it can read any text."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=vocabulary, special_tokens=["<s>", "</s>"], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


def new_base(shape: Shape, *, seed: int) -> LlamaForCausalLM:
    """Return a randomly initialised Llama."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        tie_word_embeddings=True,
    )
    with _seeded(seed):
        return LlamaForCausalLM(config)


def new_adapter(base: PreTrainedModel, *, seed: int, declared_base: str) -> PeftModel:
    """Return `base` with a fresh LoRA adapter (r=8, α=16, as in the paper) that names `declared_base`."""
    config = LoraConfig(r=8, lora_alpha=16, target_modules=_TARGETS, task_type="CAUSAL_LM")
    with _seeded(seed):
        model = get_peft_model(base, config)
    model.peft_config["default"].base_model_name_or_path = declared_base
    return model


def examples(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int) -> Tensor:
    """Return `(n_examples, length)` int64: stretches of the texts that begin with a line; a short rest is dropped."""
    rows: list[list[int]] = []
    for text in texts:
        row: list[int] = []
        for line in tokenizer(text.splitlines(keepends=True), add_special_tokens=False)["input_ids"]:
            row += line
            if len(row) >= length:
                rows.append(row[:length])
                row = []
    return torch.tensor(rows)


def train(
    model: torch.nn.Module,
    data: Tensor,
    schedule: Schedule,
    *,
    seed: int,
    prompt: Tensor | None = None,
    step_done: StepDone = lambda _: None,
) -> float:
    """Train `model` in place on `data` and return the mean loss of the last tenth of the steps.

    Parameters
    ----------
    model
        Causal language model; what requires a gradient is trained.
    data
        `(n_examples, length)` int64.
    prompt
        `(n_prompt,)` int64, put before every example; the loss is on what follows it only.
    seed
        Of the windows; the same seed and data give the same model.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, schedule.steps))
    losses: list[float] = []
    model.train()
    for step, (inputs, labels) in enumerate(_batches(data, schedule, prompt, seed), start=1):
        loss = model(input_ids=inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        losses.append(loss.item())
        step_done(step)
    model.eval()
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def _rate(step: int, steps: int) -> float:
    warm_up = max(1, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _batches(data: Tensor, schedule: Schedule, prompt: Tensor | None, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    before = torch.empty(0, dtype=torch.long) if prompt is None else prompt
    before = before.expand(schedule.batch, -1)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(schedule.steps):
        while len(order) < schedule.batch:
            order = torch.cat([order, torch.randperm(len(data), generator=generator)])
        chosen, order = data[order[: schedule.batch]], order[schedule.batch :]
        yield torch.cat([before, chosen], 1), torch.cat([torch.full_like(before, _IGNORED), chosen], 1)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
