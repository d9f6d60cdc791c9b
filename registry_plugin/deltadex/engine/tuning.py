"""Few-shot training of a small adapter (arXiv 2509.04442)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.engine.delta import load_tokenizer
from deltadex.engine.examples import Example
from deltadex.engine.messages import Tuning
from deltadex.engine.probes import PAPER_PROBES
from deltadex.engine.prompts import completion_ids, prompt_ids
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.whole_model import load_decoder
from deltadex.errors import EmbeddingError

#: The probes' instructions, reused for the examples, so that training acts where the probes are read.
_INSTRUCTIONS = tuple(probe.split("\n\n")[0] for probe in PAPER_PROBES.probes)
_TEMPLATE = "{instruction}\n\n### Instruction:\n{prompt}\n\n### Response:\n"
_IGNORED_LABEL = -100


def tune(tuning: Tuning) -> Iterator[int]:
    """Train an adapter and save it into the request's folder; yield the number of steps done after each step.

    Raises
    ------
    DeltadexError
        The base cannot be loaded, or cannot generate text.
    """
    stored = StoredModel(tuning.base.checkpoint)
    tokenizer = load_tokenizer(tuning.base.checkpoint)
    encoded = [
        _as_scored(tokenizer, example, tuning.max_tokens)
        if tuning.as_scored
        else encode(tokenizer, example, instruction=instruction, max_tokens=tuning.max_tokens)
        for example, instruction in zip(tuning.examples, cycle(_INSTRUCTIONS), strict=False)
    ]
    torch.manual_seed(tuning.seed)
    device = Compute.resolve("float32", tuning.base.device).device
    model = _with_adapter(load_decoder(stored, device), rank=tuning.rank)
    yield from _train(model, encoded, tuning, device)
    model.peft_config["default"].base_model_name_or_path = str(tuning.base.checkpoint.folder)
    model.save_pretrained(str(tuning.folder), save_embedding_layers=False)


def encode(tokenizer: Tokenizer, example: Example, *, instruction: str, max_tokens: int) -> tuple[list[int], list[int]]:
    """Return the tokens of prompt and completion, truncated at the prompt's start and the completion's end.

    Parameters
    ----------
    instruction
        Text before the prompt where the base's chat template does not apply.
    """
    completion = _ids(tokenizer, example.completion)[: max_tokens // 2]
    if tokenizer.eos_token_id is not None:
        completion.append(tokenizer.eos_token_id)
    return _ids(tokenizer, _prompt(tokenizer, example, instruction))[len(completion) - max_tokens :], completion


def _as_scored(tokenizer: Tokenizer, example: Example, max_tokens: int) -> tuple[list[int], list[int]]:
    """Return the tokens of prompt and completion as `deltadex.engine.likelihood` reads them."""
    completion = completion_ids(tokenizer, example)[: max_tokens // 2]
    return list(prompt_ids(tokenizer, example)[len(completion) - max_tokens :]), list(completion)


def _prompt(tokenizer: Tokenizer, example: Example, instruction: str) -> str:
    prompt = example.prompt
    if not isinstance(prompt, str) and tokenizer.chat_template:
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    text = prompt if isinstance(prompt, str) else "\n\n".join(turn.content for turn in prompt)
    return _TEMPLATE.format(instruction=instruction, prompt=text)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _with_adapter(model: PreTrainedModel, *, rank: int) -> PeftModel:
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def _train(
    model: PeftModel, encoded: Sequence[tuple[list[int], list[int]]], tuning: Tuning, device: torch.device
) -> Iterator[int]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate = tuning.learning_rate * 1_000 / model.config.get_text_config().hidden_size
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=tuning.steps)
    model.train()
    for step, batch in enumerate(_batches(encoded, tuning), start=1):
        loss = model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss
        if not torch.isfinite(loss):
            raise EmbeddingError(f"The loss was {loss.item()} at step {step}", hint="Lower the learning rate.")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
        yield step


def _batches(encoded: Sequence[tuple[list[int], list[int]]], tuning: Tuning) -> Iterator[dict[str, Tensor]]:
    """Yield padded batches that cycle through all examples in a seeded random order."""
    order: list[int] = []
    size = min(tuning.batch, len(encoded))
    for _ in range(tuning.steps):
        while len(order) < size:
            order += torch.randperm(len(encoded)).tolist()
        chosen, order = order[:size], order[size:]
        yield _padded([encoded[index] for index in chosen])


def _padded(rows: Sequence[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
    """Return `(n_rows, n_tokens)` ids, mask and labels, padded on the right; mask and labels exclude the padding."""
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids, mask = torch.zeros(2, len(rows), length, dtype=torch.long)
    labels = torch.full_like(ids, _IGNORED_LABEL)
    for row, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(completion)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
