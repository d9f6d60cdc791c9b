"""A second base of another size and tokenizer, pretrained on the spot on the text of the train domains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from benchmarks.real.texts import DOMAINS, PARTS, Role, Texts
from benchmarks.real.training import Workshop
from deltadex.demo import training
from deltadex.demo.specification import Schedule, Shape

#: 2.6 million parameters; SmolLM2 has 135 million.
_SHAPE = Shape(vocabulary=4096, hidden_size=192, layers=4, heads=4, intermediate_size=512)
#: A million tokens.
_SCHEDULE = Schedule(steps=1_000, batch=16, length=64, learning_rate=2e-3)


def workshop(folder: Path) -> Workshop:
    """Return a workshop for the second base; texts are those of SmolLM2's."""
    texts = Texts(folder / "texts")
    return Workshop(folder / "second", texts, lambda into: _save(into, texts))


def _save(folder: Path, texts: Texts) -> None:
    documents = [text for part in range(PARTS - 1) for text in texts_of_train(texts, part)]
    tokenizer = training.train_tokenizer(documents, _SHAPE.vocabulary)
    model = training.new_base(_SHAPE, seed=0)
    training.train(model, training.examples(tokenizer, documents, _SCHEDULE.length), _SCHEDULE, seed=0)
    for part in (model, tokenizer):
        part.save_pretrained(folder)


def texts_of_train(texts: Texts, part: int) -> Iterator[str]:
    """Yield the texts of one part of the train domains, on which further bases are trained."""
    for text in DOMAINS.values():
        if text.role is Role.TRAIN:
            yield from texts.part(text.source, part)


def bits_per_byte(base: Path, texts: Texts, *, every: int = 1) -> float:
    """Return a base's loss on the last part of the train domains' text, in stretches of 64 tokens.

    Parameters
    ----------
    every
        Read each so manieth text only.
    """
    model, tokenizer = training.load_base(base).eval(), training.load_tokenizer(base)
    nats, count = 0.0, 0
    for text in islice(texts_of_train(texts, PARTS - 1), 0, None, every):
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"][0]
        for rows in ids[: len(ids) // 64 * 64].view(-1, 64)[:2]:  # the same text for both, as far as tokens end alike
            with torch.inference_mode():
                logits = model(input_ids=rows[None]).logits[0, :-1].log_softmax(-1)
            nats -= float(logits.gather(1, rows[1:, None]).sum())
            count += len(tokenizer.decode(rows[1:]).encode())
    return nats / math.log(2) / count
