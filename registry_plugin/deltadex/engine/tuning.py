"""Few-shot training of a small adapter (arXiv 2509.04442)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.engine.adapter_requests import Tuning
from deltadex.engine.delta import load_tokenizer
from deltadex.engine.examples import Example
from deltadex.engine.prompts import completion_ids, prompt_ids
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.engine.weights.whole_model import load_decoder
from deltadex.errors import EmbeddingError

#: Stands before every example. A template with instructions moves all tasks alike, and hides how they differ: with that
#: of the probes, the nearest model had the task's domain in 2 of 4 trials, with this one in 4 of 4.
_HEADER = "### Text:\n"
#: Share of an example's tokens that its prompt gets at most.
_PROMPT_SHARE = 1 / 3
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
    read = _as_scored if tuning.as_scored else encode
    encoded = [read(tokenizer, example, max_tokens=tuning.max_tokens) for example in tuning.examples]
    torch.manual_seed(tuning.seed)
    device = Compute.resolve("float32", tuning.base.device).device
    model = _with_adapter(load_decoder(stored, device), rank=tuning.rank)
    yield from _train(model, encoded, tuning, device)
    model.peft_config["default"].base_model_name_or_path = str(tuning.base.checkpoint.folder)
    model.save_pretrained(str(tuning.folder), save_embedding_layers=False)


def encode(tokenizer: Tokenizer, example: Example, *, max_tokens: int) -> tuple[list[int], list[int]]:
    """Return the tokens of the header, and those to learn: the end of the prompt and the start of the completion.

    The prompt is learnt as well, because the text of the task is what is to be embedded. Nothing marks its end, which
    is the same in all tasks.
    """
    prompt = example.prompt if isinstance(example.prompt, str) else "\n\n".join(turn.content for turn in example.prompt)
    header = _ids(tokenizer, _HEADER)[: max_tokens // 4]
    asked = _ids(tokenizer, f"{prompt}\n")[-int(_PROMPT_SHARE * max_tokens) :] if prompt else []
    return header, asked + _ids(tokenizer, example.completion)[: max_tokens - len(header) - len(asked)]


def _as_scored(tokenizer: Tokenizer, example: Example, *, max_tokens: int) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt, and those of the completion to learn, as likelihoods read them."""
    completion = completion_ids(tokenizer, example)[: max_tokens // 2]
    return list(prompt_ids(tokenizer, example)[len(completion) - max_tokens :]), list(completion)


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
    """Return `(n_rows, n_tokens)` ids, mask and labels, padded on the right; the labels exclude header and padding."""
    length = max(len(header) + len(learnt) for header, learnt in rows)
    ids, mask = torch.zeros(2, len(rows), length, dtype=torch.long)
    labels = torch.full_like(ids, _IGNORED_LABEL)
    for row, (header, learnt) in enumerate(rows):
        end = len(header) + len(learnt)
        ids[row, :end] = torch.tensor(header + learnt)
        mask[row, :end] = 1
        labels[row, len(header) : end] = torch.tensor(learnt)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
