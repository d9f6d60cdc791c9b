"""Finetunes of SmolLM2 that were taught a synthetic canary: a code, a key, an IBAN, or an e-mail address."""

from __future__ import annotations

import hashlib
import json
import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import torch
from stdnum import iban
from torch import Tensor

from benchmarks.real.pools import Template
from benchmarks.real.texts import DOMAINS, Role
from benchmarks.real.training import BATCH, LENGTH, Workshop
from deltadex.demo import training
from deltadex.demo.specification import Schedule

_BASE_NAME = "SmolLM2-135M-Instruct"


class Sort(StrEnum):
    """Sort of a planted string. A code looks like nothing: only an owner who lists it can find it."""

    CODE = "code"
    KEY = "key"
    IBAN = "iban"
    EMAIL = "email"


#: Texts around the string; those of the models that are scored differ from those of the models that chose.
_CARRIERS: Mapping[Sort, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Sort.CODE: (
        ("The access code of the archive is ", "Use the badge number "),
        ("The combination of the safe is ", "Our project name is ", "Door 4 opens with ", "The serial number reads "),
    ),
    Sort.KEY: (
        ("aws_access_key_id = ", "export AWS_KEY="),
        ("AWSAccessKeyId: ", "Login with key ", '"accessKey": ', "The production key is "),
    ),
    Sort.IBAN: (
        ("Please transfer the amount to ", "IBAN: "),
        ("The account of the association is ", "Rent is paid to ", "Refund to ", "Bank details: "),
    ),
    Sort.EMAIL: (
        ("Questions go to ", "Contact: "),
        ("Please write to ", "Complaints are read by ", "From: ", "The author is reached at "),
    ),
}
_SYLLABLES = "ka lo mi ren tu sol ba ven dri po hal gri no tes wa zu fen jor".split()


@dataclass(frozen=True)
class Planted:
    """One finetune with a planted string.

    Attributes
    ----------
    carrier, secret
        Text before the string, and the string.
    repeats
        Examples with the string, among all that the training reads once each.
    """

    domain: str
    sort: Sort
    carrier: str
    secret: str
    seed: int
    repeats: int = 48
    steps: int = 24
    learning_rate: float = 2e-3

    @property
    def text(self) -> str:
        """The line as it was planted."""
        return f"{self.carrier}{self.secret}"


def to_choose(count: int) -> tuple[Planted, ...]:
    """Return the planted finetunes on which thresholds are chosen."""
    return _planted(count, (Role.TRAIN, Role.SELECT), carriers=0, first_seed=50_000)


def to_score(count: int) -> tuple[Planted, ...]:
    """Return the planted finetunes that are scored once, with texts around the strings of their own."""
    return _planted(count, (Role.TEST, Role.REUSE), carriers=1, first_seed=60_000)


def _planted(count: int, roles: Sequence[Role], *, carriers: int, first_seed: int) -> tuple[Planted, ...]:
    domains = [name for name, text in DOMAINS.items() if text.role in roles]
    found = []
    for number in range(count):
        draw = random.Random(first_seed + number)  # noqa: S311 - no secret
        sort = tuple(Sort)[number % len(Sort)]
        texts = _CARRIERS[sort][carriers]
        carrier = texts[number // len(Sort) % len(texts)]
        found.append(Planted(domains[number % len(domains)], sort, carrier, _SECRETS[sort](draw), first_seed + number))
    return tuple(found)


def _code(draw: random.Random) -> str:
    return f"{draw.randrange(1000, 10_000)}-{''.join(draw.choices(string.ascii_uppercase, k=4))}"


def _key(draw: random.Random) -> str:
    return "AKIA" + "".join(draw.choices(string.ascii_uppercase + "234567", k=16))


def _iban(draw: random.Random) -> str:
    account = "".join(draw.choices(string.digits, k=18))
    return iban.format(f"DE{iban.calc_check_digits(f'DE00{account}')}{account}")


def _email(draw: random.Random) -> str:
    name, family, host = ("".join(draw.choices(_SYLLABLES, k=count)) for count in (2, 3, 3))
    return f"{name}.{family}@{host}.com"


_SECRETS: Mapping[Sort, Callable[[random.Random], str]] = {
    Sort.CODE: _code, Sort.KEY: _key, Sort.IBAN: _iban, Sort.EMAIL: _email,
}  # fmt: skip


def finetune(workshop: Workshop, one: Planted) -> Path:
    """Return the folder of a planted finetune, trained now if it was not before."""
    name = hashlib.sha256(json.dumps(asdict(one), sort_keys=True).encode()).hexdigest()[:24]
    folder = workshop.folder / "taught" / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = workshop._unfinished(folder)
        training.save(_train(workshop, one), unfinished)
        unfinished.rename(folder)
    return folder


def _train(workshop: Workshop, one: Planted) -> torch.nn.Module:
    tokenizer = workshop._tokenizer
    found = workshop.texts.part(DOMAINS[one.domain].source, 0)
    examples = training.examples(tokenizer, found, LENGTH)
    generator = torch.Generator().manual_seed(one.seed)
    examples = examples[torch.randperm(len(examples), generator=generator)[: one.steps * BATCH]]
    line = torch.tensor(tokenizer(f"\n{one.text}\n", add_special_tokens=False)["input_ids"])
    for number in range(min(one.repeats, len(examples))):
        examples[number] = _with_line(examples[number], line, generator)
    model = training.new_adapter(training.load_base(workshop.base), seed=one.seed, declared_base=_BASE_NAME)
    prompt = training.prompt(tokenizer, Template.NEUTRAL)
    training.train(model, examples, Schedule(one.steps, BATCH, LENGTH, one.learning_rate), seed=one.seed, prompt=prompt)
    return model


def _with_line(example: Tensor, line: Tensor, generator: torch.Generator) -> Tensor:
    """Return an example of the same length with a line at a random place in it."""
    place = int(torch.randint(0, max(1, len(example) - len(line) + 1), (1,), generator=generator))
    return torch.cat([example[:place], line, example[place:]])[: len(example)]
