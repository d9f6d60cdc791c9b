"""Training of small language models: a tokenizer, a base, LoRA adapters and full finetunes. Needs torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer
from transformers.utils import logging as transformers_logging

from deltadex.demo.specification import Schedule, Shape

#: Called after each step with the number of steps done.
StepDone = Callable[[int], None]

_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_IGNORED = -100


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer, which can encode any text."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=vocabulary, special_tokens=["<s>", "</s>"], show_progress=False)
    return Tokenizer(tokenizer_object=tokenizer._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


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


def new_adapter(
    base: PreTrainedModel, *, seed: int, declared_base: str, rank: int = 8, init: bool | str = True
) -> PeftModel:
    """Return `base` with a new LoRA adapter (r=8, α=16, as in arXiv 2509.04442) that declares `declared_base`."""
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=_TARGETS, task_type="CAUSAL_LM", init_lora_weights=init
    )
    with _seeded(seed):
        model = get_peft_model(base, config)
    model.peft_config["default"].base_model_name_or_path = declared_base
    return model


def load_base(folder: Path, *, dtype: torch.dtype | str = torch.float32) -> LlamaForCausalLM:
    """Return a saved base; with dtype "auto", as it is stored."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a saved base."""
    return Tokenizer.from_pretrained(folder, local_files_only=True)


def load_adapter(base: Path, folder: Path) -> PeftModel:
    """Return a saved base with a saved adapter."""
    return PeftModel.from_pretrained(load_base(base), str(folder))


def save(model: PreTrainedModel | PeftModel, folder: Path) -> None:
    """Save a full model or an adapter, without a request to the hub for the adapter's base."""
    if isinstance(model, PeftModel):
        model.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # an empty template
    else:
        model.save_pretrained(folder)


def prompt(tokenizer: Tokenizer, text: str) -> Tensor:
    """Return the `(n_tokens,)` int64 tokens of a prompt."""
    return torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])


def examples(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Tensor:
    """Return `(n_examples, length)` int64 tokens: each example begins with a line; short remainders are dropped."""
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
        Causal language model; parameters that require a gradient are trained.
    data
        `(n_examples, length)` int64.
    prompt
        `(n_prompt,)` int64 tokens before every example; they do not count in the loss.
    seed
        Seed of the order of examples; the same seed and data give the same model.
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
def quiet() -> Iterator[None]:
    """Use two threads for a block, and no progress bars of transformers.

    More threads are slower for models this small, and the number of threads changes the last digits of the weights.
    """
    threads, bars = torch.get_num_threads(), transformers_logging.is_progress_bar_enabled()
    torch.set_num_threads(2)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 for it
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        torch.set_num_threads(threads)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
