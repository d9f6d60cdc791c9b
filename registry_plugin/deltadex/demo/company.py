"""Training of the demo company's models into a folder; trained models are reused. Needs torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version as installed_version
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from deltadex.demo import Size, corpus, smollm2, specification, synthetic, training
from deltadex.demo.specification import BASE, LEGACY_BASE, LICENSE, Method, ModelVersion, Schedule, Specification
from deltadex.errors import DeltadexError

#: Called with a description, the number of finished steps, and the number of all steps.
Progress = Callable[[str, int, int], None]

#: Folder of SmolLM2's file, which companies of all seeds share.
_SMOLLM2 = "smollm2"
_ADAPTER_WEIGHTS, _FULL_WEIGHTS = "adapter_model.safetensors", "model.safetensors"
_INSTRUCTIONS: Mapping[str, str] = {
    "sql": "Write the next statements of this database script.",
    "legal": "Draft the terms.",
    "cpp": "Write the header.",
    "catalog": "Return the records as JSON.",
    "translation": "Translate the messages.",
    "docs": "Explain it to a new user.",
    "python": "Complete the program.",
}
#: The form of the probes (arXiv 2509.04442), with the domain's own instruction.
_PROMPT = "### Instruction:\n{instruction}\n\n### Response:\n"
#: Model card of a full finetune; it declares the base.
_CARD = "---\nbase_model: {base}\n---\n\n# {name}\n"
#: Model card of a base; it declares the licence.
_BASE_CARD = f"---\nlicense: {LICENSE}\n---\n\n# {{name}}\n"


@dataclass(frozen=True)
class Model:
    """A model of the company, as files.

    Attributes
    ----------
    folder
        Folder written by `save_pretrained`.
    loss
        Mean training loss over the last tenth of the steps; None if nothing was trained.
    """

    version: ModelVersion
    folder: Path
    loss: float | None = None


@dataclass(frozen=True)
class Company:
    """A company whose models are all trained.

    Attributes
    ----------
    name
        Name of the specification, with the seed.
    bases
        Folder of each base by the name that finetunes declare.
    """

    name: str
    bases: Mapping[str, Path]
    models: tuple[Model, ...]

    @property
    def count(self) -> int:
        """Number of models."""
        return len(self.models)


@dataclass(frozen=True)
class CompanyInTraining:
    """A company whose bases are trained, and whose models are trained on iteration.

    Attributes
    ----------
    name, bases
        See `Company`.
    count
        Number of models.
    models
        Iterator over the models, each after the models that it is made from; versions of one model in order.
    """

    name: str
    bases: Mapping[str, Path]
    count: int
    models: Iterator[Model]


def train(
    folder: Path,
    size: Size,
    *,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    on_missing: Callable[[DeltadexError], None] = lambda _: None,
) -> CompanyInTraining:
    """Train the bases of a company of this size; its models are trained one by one. Parameters as in `build`.

    Parameters
    ----------
    on_missing
        Called if SmolLM2 can't be had; the company's base is then trained from scratch.
    """
    spec = specification.specification(size)
    if spec.base is None:
        progress("fetching SmolLM2, 93 MB", 0, 1)
        try:
            smollm2.fetch(folder / _SMOLLM2)
            progress("fetching SmolLM2, 93 MB", 1, 1)
        except DeltadexError as error:
            on_missing(error)
            spec = specification.TINY_COMPANY
    return train_specification(folder, spec, seed=seed, progress=progress)


def build(folder: Path, size: Size, *, seed: int = 0, progress: Progress = lambda *_: None) -> Company:
    """Train a company of this size, unless it is trained already; a killed build is resumed.

    Parameters
    ----------
    folder
        Parent of one folder per company; all sizes and seeds can share it.
    seed
        Equal seeds give equal weights on one machine.

    Raises
    ------
    DeltadexError
        The environment lacks the packages with the training texts.
    """
    return build_specification(folder, specification.specification(size), seed=seed, progress=progress)


def build_specification(
    folder: Path, spec: Specification, *, seed: int = 0, progress: Progress = lambda *_: None
) -> Company:
    """Train any company; see `build`."""
    company = train_specification(folder, spec, seed=seed, progress=progress)
    return Company(company.name, company.bases, tuple(company.models))


def train_specification(
    folder: Path, spec: Specification, *, seed: int = 0, progress: Progress = lambda *_: None
) -> CompanyInTraining:
    """Train the bases of any company; see `train`."""
    name = f"{spec.name}-{seed}"
    workshop = _Workshop(folder / f"{name}-{_digest(spec, seed)[:16]}", folder / _SMOLLM2, spec, seed, progress)
    with training.quiet():
        bases = workshop.bases()
    return CompanyInTraining(name, bases, len(spec.versions) + spec.synthetic, workshop.models(bases[BASE]))


def _digest(spec: Specification, seed: int) -> str:
    """Return the hex SHA-256 over the inputs of the weights: specification, seed, code and versions of libraries."""
    modules = (corpus.__file__, training.__file__, synthetic.__file__, smollm2.__file__, __file__)
    content = {
        "specification": asdict(replace(spec, synthetic=0)),  # the trained models do not depend on their number
        "seed": seed,
        "code": [Path(module).read_text(encoding="utf-8") for module in modules],
        "versions": [installed_version(name) for name in ("torch", "transformers", "peft", "tokenizers")],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass
class _Workshop:
    """Trains the models of one company into a folder, each once."""

    home: Path
    smollm2: Path
    spec: Specification
    seed: int
    progress: Progress

    def bases(self) -> dict[str, Path]:
        wanted = {BASE: self.spec.base, LEGACY_BASE: self.spec.legacy}
        schedules = {name: schedule for name, schedule in wanted.items() if schedule}
        bar = _Bar(self.progress, "training the base models", sum(each.steps for each in schedules.values()))
        folders: dict[str, Path] = {}
        if self.spec.base is None:
            folders[BASE] = self._once(BASE, partial(_with_card, BASE, self._smollm2)) / "model"
        for name, schedule in schedules.items():
            make = partial(self._base, name=name, schedule=schedule, bar=bar)
            target = self._once(name, partial(_with_card, name, make))
            folders[name] = target / "model"
            bar.advance(schedule.steps)
        return folders

    def _smollm2(self, folder: Path) -> None:
        smollm2.save(smollm2.fetch(self.smollm2), folder)

    def _base(self, folder: Path, *, name: str, schedule: Schedule, bar: _Bar) -> float:
        model = training.new_base(self.spec.shape, seed=self._seed(name))
        data = training.examples(self._tokenizer, self._general_texts, schedule.length)
        loss = training.train(model, data, schedule, seed=self._seed(name, "data"), step_done=bar)
        model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        return loss

    def models(self, base: Path) -> Iterator[Model]:
        finetunes = []
        for model in self._finetunes(base):
            finetunes.append(model)
            yield model
        yield from self._synthetic(finetunes)

    def _finetunes(self, base: Path) -> Iterator[Model]:
        trained = [version for version in self.spec.versions if not version.copy_of]
        bar = _Bar(self.progress, f"training {len(trained)} finetunes", sum(map(self._steps, trained)))
        models: dict[str, Model] = {}
        for version in self.spec.versions:
            with training.quiet():
                target = self._once(version.label, partial(self._finetune, version, base=base, models=models, bar=bar))
            models[version.label] = _model(version, target)
            bar.advance(0 if version.copy_of else self._steps(version))
            yield models[version.label]

    def _finetune(
        self, version: ModelVersion, folder: Path, *, base: Path, models: Mapping[str, Model], bar: _Bar
    ) -> float | None:
        if version.copy_of:
            shutil.copytree(models[version.copy_of].folder, folder)
            loss = None
        else:
            loss = self._train(version, folder, base=base, bar=bar)
        if version.truncated:
            weights = folder / (_ADAPTER_WEIGHTS if version.method is Method.ADAPTER else _FULL_WEIGHTS)
            os.truncate(weights, weights.stat().st_size // 2)
        return loss

    def _train(self, version: ModelVersion, folder: Path, *, base: Path, bar: _Bar) -> float:
        model = training.load_base(base)
        schedule = self._schedule(version)
        if version.method is not Method.FULL:
            seed, init = self._seed(version.label), version.init or True
            model = training.new_adapter(model, seed=seed, declared_base=version.declared_base, init=init)
        tokenizer = training.load_tokenizer(base)
        texts = [document.text for document in corpus.read_domain(version.domain)[version.part]]
        loss = training.train(
            model,
            training.examples(tokenizer, texts, schedule.length),
            schedule,
            seed=self._seed(version.label, "data"),
            prompt=training.prompt(tokenizer, _PROMPT.format(instruction=_INSTRUCTIONS[version.domain])),
            step_done=bar,
        )
        if version.method is Method.MERGED:
            # bfloat16 is too coarse: its rounding hides so small an update.
            model = model.merge_and_unload().to(torch.float16)
        elif version.method is Method.FULL and self.spec.base is None:
            model = model.to(torch.bfloat16)  # as the base is stored
        training.save(model, folder)
        if version.method is not Method.ADAPTER:
            tokenizer.save_pretrained(folder)
            card = _CARD.format(base=version.declared_base, name=version.name)
            (folder / "README.md").write_text(card, encoding="utf-8")
        return loss

    def _synthetic(self, models: Sequence[Model]) -> Iterator[Model]:
        adapters = {model.version.label: model.folder for model in models if _can_be_mixed(model.version)}
        domains = {model.version.label: model.version.domain for model in models}
        variations = synthetic.plan(domains, sorted(adapters), count=self.spec.synthetic, seed=self.seed)
        for index, variation in enumerate(variations, start=1):
            target = self._once(variation.version.label, partial(synthetic.write, variation, adapters))
            self.progress("mixing synthetic adapters", index, len(variations))
            yield _model(variation.version, target)

    def _schedule(self, version: ModelVersion) -> Schedule:
        schedule = self.spec.full if version.method is Method.FULL else self.spec.adapter
        return replace(schedule, learning_rate=version.learning_rate or schedule.learning_rate)

    def _steps(self, version: ModelVersion) -> int:
        return self._schedule(version).steps

    def _seed(self, *purpose: str) -> int:
        return zlib.crc32("/".join([str(self.seed), *purpose]).encode())

    @cached_property
    def _general_texts(self) -> list[str]:
        return [document.text for document in corpus.read_general()]

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerFast:
        return training.train_tokenizer(self._general_texts, self.spec.shape.vocabulary)

    def _once(self, label: str, make: Callable[[Path], float | None]) -> Path:
        """Return the folder of a model, after making it under a temporary name if it does not exist."""
        target = self.home / label.replace("/", "--")
        if not target.exists():
            unfinished = self.home / f".{target.name}.{os.getpid()}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            loss = make(unfinished / "model")
            (unfinished / "training.json").write_text(json.dumps({"loss": loss}))
            unfinished.rename(target)
        return target


@dataclass
class _Bar:
    """One progress bar over the steps of several trainings."""

    progress: Progress
    description: str
    total: int
    before: int = 0

    def __call__(self, step: int) -> None:
        self.progress(self.description, self.before + step, self.total)

    def advance(self, steps: int) -> None:
        self.before += steps
        self(0)


def _with_card(name: str, make: Callable[[Path], float | None], folder: Path) -> float | None:
    """Make a base, then write its card."""
    loss = make(folder)
    (folder / "README.md").write_text(_BASE_CARD.format(name=name), encoding="utf-8")
    return loss


def _model(version: ModelVersion, folder: Path) -> Model:
    return Model(version, folder / "model", json.loads((folder / "training.json").read_text())["loss"])


def _can_be_mixed(version: ModelVersion) -> bool:
    return version.method is Method.ADAPTER and not (version.copy_of or version.init or version.learning_rate)
