"""Training the demo company into a folder, once: what is there already is taken as it is. Needs torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version as installed_version
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from deltadex.demo import Size, corpus, specification, synthetic, training
from deltadex.demo.specification import BASE, LEGACY_BASE, Method, ModelVersion, Schedule, Specification

#: Called with a description, how much is done, and of how much.
Progress = Callable[[str, int, int], None]

_WEIGHTS = {Method.ADAPTER: "adapter_model.safetensors", Method.FULL: "model.safetensors"}
_INSTRUCTIONS: Mapping[str, str] = {
    "sql": "Write the next statements of this database script.",
    "legal": "Draft the terms.",
    "cpp": "Write the header.",
    "catalog": "Return the records as JSON.",
    "translation": "Translate the messages.",
    "docs": "Explain it to a new user.",
    "python": "Complete the program.",
}
#: Like the probes' in form, as in the paper, but with the domain's own instruction.
_PROMPT = "### Instruction:\n{instruction}\n\n### Response:\n"
#: Where full finetunes on the Hugging Face hub say what they were made from.
_CARD = "---\nbase_model: {base}\n---\n\n# {name}\n"


@dataclass(frozen=True)
class Model:
    """A model of the company, as files.

    Attributes
    ----------
    folder
        What `save_pretrained` wrote.
    loss
        Mean training loss over the last tenth of the steps; None where nothing was trained.
    """

    version: ModelVersion
    folder: Path
    loss: float | None = None


@dataclass(frozen=True)
class Company:
    """Everything that was built.

    Attributes
    ----------
    name
        Which company this is: of its specification and its seed.
    bases
        Folder of each base by the name that finetunes declare.
    """

    name: str
    bases: Mapping[str, Path]
    models: tuple[Model, ...]


def build(folder: Path, size: Size, *, seed: int = 0, progress: Progress = lambda *_: None) -> Company:
    """Train the company of a size, or find that it was trained; a build that was killed resumes.

    Parameters
    ----------
    folder
        Holds a folder for each company, so that all sizes and seeds can share it.
    seed
        Equal seeds give equal weights on one machine.

    Raises
    ------
    DeltadexError
        The environment lacks the packages that the text comes from.
    """
    return build_specification(folder, specification.specification(size), seed=seed, progress=progress)


def build_specification(
    folder: Path, wanted: Specification, *, seed: int = 0, progress: Progress = lambda *_: None
) -> Company:
    """Do what `build` does, for any company."""
    name = f"{wanted.name}-{seed}"
    workshop = _Workshop(folder / f"{name}-{_digest(wanted, seed)[:16]}", wanted, seed, progress)
    with training.quiet():
        bases = workshop.bases()
        models = workshop.finetunes(bases[BASE])
        return Company(name, bases, (*models, *workshop.synthetic(models)))


def _digest(wanted: Specification, seed: int) -> str:
    """Return the hex SHA-256 over what decides the weights: specification, seed, code and versions of the libraries."""
    modules = (corpus.__file__, training.__file__, synthetic.__file__, __file__)
    content = {
        "specification": asdict(replace(wanted, synthetic=0)),  # nothing else depends on their number
        "seed": seed,
        "code": [Path(module).read_text(encoding="utf-8") for module in modules],
        "versions": [installed_version(name) for name in ("torch", "transformers", "peft", "tokenizers")],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass
class _Workshop:
    """Where the models of one company are made, each once."""

    home: Path
    wanted: Specification
    seed: int
    progress: Progress

    def bases(self) -> dict[str, Path]:
        schedules = {BASE: self.wanted.base} | ({LEGACY_BASE: self.wanted.legacy} if self.wanted.legacy else {})
        bar = _Bar(self.progress, "training the base models", sum(each.steps for each in schedules.values()))
        folders: dict[str, Path] = {}
        for name, schedule in schedules.items():
            made = self._once(name, partial(self._base, name=name, schedule=schedule, bar=bar))
            folders[name] = made / "model"
            bar.advance(schedule.steps)
        return folders

    def _base(self, folder: Path, *, name: str, schedule: Schedule, bar: _Bar) -> float:
        model = training.new_base(self.wanted.shape, seed=self._seed(name))
        data = training.examples(self._tokenizer, self._general_texts, schedule.length)
        loss = training.train(model, data, schedule, seed=self._seed(name, "data"), step_done=bar)
        model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        return loss

    def finetunes(self, base: Path) -> list[Model]:
        trained = [version for version in self.wanted.versions if not version.copy_of]
        bar = _Bar(self.progress, f"training {len(trained)} finetunes", sum(map(self._steps, trained)))
        models: dict[str, Model] = {}
        for version in sorted(self.wanted.versions, key=lambda each: each.copy_of is not None):
            made = self._once(version.label, partial(self._finetune, version, base=base, models=models, bar=bar))
            models[version.label] = _model(version, made)
            bar.advance(0 if version.copy_of else self._steps(version))
        return [models[version.label] for version in self.wanted.versions]

    def _finetune(
        self, version: ModelVersion, folder: Path, *, base: Path, models: Mapping[str, Model], bar: _Bar
    ) -> float | None:
        if version.copy_of:
            shutil.copytree(models[version.copy_of].folder, folder)
            loss = None
        else:
            loss = self._train(version, folder, base=base, bar=bar)
        if version.truncated:
            weights = folder / _WEIGHTS[version.method]
            os.truncate(weights, weights.stat().st_size // 2)
        return loss

    def _train(self, version: ModelVersion, folder: Path, *, base: Path, bar: _Bar) -> float:
        model = training.load_base(base)
        schedule = self.wanted.full
        if version.method is Method.ADAPTER:
            schedule = self.wanted.adapter
            model = training.new_adapter(model, seed=self._seed(version.label), declared_base=version.declared_base)
        texts = [document.text for document in corpus.read_domain(version.domain)[version.part]]
        loss = training.train(
            model,
            training.examples(self._tokenizer, texts, schedule.length),
            schedule,
            seed=self._seed(version.label, "data"),
            prompt=training.prompt(self._tokenizer, _PROMPT.format(instruction=_INSTRUCTIONS[version.domain])),
            step_done=bar,
        )
        training.save(model, folder)
        if version.method is Method.FULL:
            self._tokenizer.save_pretrained(folder)
            card = _CARD.format(base=version.declared_base, name=version.name)
            (folder / "README.md").write_text(card, encoding="utf-8")
        return loss

    def synthetic(self, models: list[Model]) -> list[Model]:
        adapters = {model.version.label: model.folder for model in models if _can_be_mixed(model.version)}
        domains = {model.version.label: model.version.domain for model in models}
        variations = synthetic.plan(domains, sorted(adapters), count=self.wanted.synthetic, seed=self.seed)
        made: list[Model] = []
        for index, variation in enumerate(variations, start=1):
            make = partial(synthetic.write, variation, adapters)
            made.append(_model(variation.version, self._once(variation.version.label, make)))
            self.progress("mixing synthetic adapters", index, len(variations))
        return made

    def _steps(self, version: ModelVersion) -> int:
        return (self.wanted.adapter if version.method is Method.ADAPTER else self.wanted.full).steps

    def _seed(self, *purpose: str) -> int:
        return zlib.crc32("/".join([str(self.seed), *purpose]).encode())

    @cached_property
    def _general_texts(self) -> list[str]:
        return [document.text for document in corpus.read_general()]

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerFast:
        return training.train_tokenizer(self._general_texts, self.wanted.shape.vocabulary)

    def _once(self, label: str, make: Callable[[Path], float | None]) -> Path:
        """Return the folder of a model; a half-made one has another name, so that a killed build is no trap."""
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


def _model(version: ModelVersion, made: Path) -> Model:
    return Model(version, made / "model", json.loads((made / "training.json").read_text())["loss"])


def _can_be_mixed(version: ModelVersion) -> bool:
    return version.method is Method.ADAPTER and not version.copy_of
