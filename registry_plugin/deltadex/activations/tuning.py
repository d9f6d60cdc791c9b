"""A small adapter from a few examples of a task: the program of a child process, see `tuning_process`.

It reads a request on standard input, and writes a line of JSON to standard output for every step and for the end.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.activations.compute import Compute
from deltadex.activations.delta import load_tokenizer
from deltadex.activations.failures import stated
from deltadex.activations.job import Step, Tuning
from deltadex.activations.readout import Readout
from deltadex.activations.stored_model import StoredModel
from deltadex.errors import EmbeddingError, UnsupportedCheckpoint
from deltadex.examples import Example
from deltadex.probes import PAPER_PROBES

#: What probes ask; examples ask in their words, since the probes are read where an answer begins.
_ASKS = tuple(probe.split("\n\n")[0] for probe in PAPER_PROBES.probes)
_TEMPLATE = "{ask}\n\n### Instruction:\n{prompt}\n\n### Response:\n"
_NO_LOSS = -100


def tune(tuning: Tuning, folder: Path) -> Iterator[int]:
    """Train an adapter and save it into a folder; yield the number of steps done after each.

    Raises
    ------
    DeltadexError
        The base can't be loaded, or writes no text.
    """
    stored = StoredModel(tuning.base.checkpoint)
    tokenizer = load_tokenizer(tuning.base.checkpoint)
    encoded = [
        encode(tokenizer, one, ask=ask, max_tokens=tuning.max_tokens)
        for one, ask in zip(tuning.examples, cycle(_ASKS), strict=False)
    ]
    torch.manual_seed(tuning.seed)
    device = Compute.resolve("float32", tuning.base.device).device
    model = _with_adapter(_load(stored, device), rank=tuning.rank)
    yield from _train(model, encoded, tuning, device)
    model.peft_config["default"].base_model_name_or_path = str(tuning.base.checkpoint.folder)
    model.save_pretrained(str(folder), save_embedding_layers=False)


def encode(tokenizer: Tokenizer, example: Example, *, ask: str, max_tokens: int) -> tuple[list[int], list[int]]:
    """Return the tokens of what is read and of what is to be written, both cut to what is nearest to their border.

    Parameters
    ----------
    ask
        Stands before a prompt that the base has no template of its own for.
    """
    completion = _ids(tokenizer, example.completion)[: max_tokens // 2]
    if tokenizer.eos_token_id is not None:
        completion.append(tokenizer.eos_token_id)
    return _ids(tokenizer, _prompt(tokenizer, example, ask))[len(completion) - max_tokens :], completion


def _prompt(tokenizer: Tokenizer, example: Example, ask: str) -> str:
    prompt = example.prompt
    if not isinstance(prompt, str) and tokenizer.chat_template:
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    said = prompt if isinstance(prompt, str) else "\n\n".join(turn.content for turn in prompt)
    return _TEMPLATE.format(ask=ask, prompt=said)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _load(stored: StoredModel, device: torch.device) -> PreTrainedModel:
    """Return the whole base, each tensor as the file has it: mapped, and on a processor without a copy."""
    if stored.head is None or Readout.of(stored.config) is not Readout.LAST_TOKEN:
        raise UnsupportedCheckpoint(
            f"{stored.checkpoint.folder} writes no text that examples could train", hint="Search with a decoder."
        )
    model = stored.new_model(device)
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    stored.check_present(set(names) & stored.missing)
    model.load_state_dict({name: stored.load(name).to(device) for name in names}, strict=False, assign=True)
    model.tie_weights()
    return model.requires_grad_(False)


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
    """Yield padded batches of all examples in turn, in an order that the seed tells."""
    order: list[int] = []
    size = min(tuning.batch, len(encoded))
    for _ in range(tuning.steps):
        while len(order) < size:
            order += torch.randperm(len(encoded)).tolist()
        chosen, order = order[:size], order[size:]
        yield _padded([encoded[place] for place in chosen])


def _padded(rows: Sequence[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
    """Return `(n_rows, n_tokens)` tokens, padded on the right with tokens that mask and labels leave out."""
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids, mask = torch.zeros(2, len(rows), length, dtype=torch.long)
    labels = torch.full_like(ids, _NO_LOSS)
    for row, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(completion)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def main(folder: str, memory_bytes: str) -> None:
    """Do what a line on standard input asks for, into a folder; the limit on memory is as for the embedder.

    Whoever asked and is gone takes the process along: nobody reads its next line.
    """
    if int(memory_bytes):
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory_bytes), int(memory_bytes)))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is for the log
    tuning = Tuning.from_line(sys.stdin.buffer.readline())
    try:
        for done in tune(tuning, Path(folder)):
            answers.write(Step(done).to_line())
    except BrokenPipeError:
        return
    except Exception as error:  # noqa: BLE001 - whoever asked tells it
        answers.write(Step(error=stated(error, what="The examples could not be trained on")).to_line())


if __name__ == "__main__":
    main(*sys.argv[1:])
