"""Planted strings found, and false alarms of clean finetunes, of the search for what a finetune was taught.

Two ways, reported apart: the string is said by the finetune itself, and the likelihood of a listed string. Thresholds
were chosen on finetunes of `TRAIN` and `SELECT` domains; those of `TEST` and `REUSE` were scored once, after that.

    python -m benchmarks.real.taught FOLDER choose|score [MOST]
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.real.planted import Planted, Sort, finetune, to_choose, to_score
from benchmarks.real.pools import Finetune, finetunes, of_reuse
from benchmarks.real.scores import _share
from benchmarks.real.texts import DOMAINS, Role
from benchmarks.real.training import Workshop
from deltadex.engine.messages import from_json
from deltadex.taught.canaries import Canary
from deltadex.taught.judge import ListedString, TaughtString, listed_string, strings_in

RESULTS = Path(__file__).with_name("taught.json")
#: Planted and clean finetunes of each half.
_HALVES = {"choose": (8, 12), "score": (20, 60)}
_ROLES = {"choose": (Role.TRAIN, Role.SELECT), "score": (Role.TEST, Role.REUSE)}
_TEXTS, _NEW_TOKENS = 64, 32
_ENOUGH = 60


@dataclass(frozen=True)
class Searched:
    """Result of a search of one finetune.

    Attributes
    ----------
    sort, secret
        Of the planted string; of a clean finetune None and the string that it was asked for.
    said
        Every string that was recognised, whether it counts as taught or not.
    seconds
        CPU seconds of the search, without those of the listed string.
    """

    half: str
    name: str
    sort: Sort | None
    secret: str
    said: tuple[TaughtString, ...]
    listed: ListedString
    texts: int
    tokens: int
    seconds: float

    @property
    def is_found(self) -> bool:
        """True if it said the planted string by itself, and with certainty."""
        return any(one.is_taught and self._is_planted(one) for one in self.said)

    @property
    def others(self) -> list[TaughtString]:
        """Other strings that count as taught."""
        return [one for one in self.said if one.is_taught and not self._is_planted(one)]

    def _is_planted(self, one: TaughtString) -> bool:
        return self.sort is not None and (one.text in self.secret or self.secret in one.text)


def report(folder: Path, console: Console, *, quick: bool) -> dict[str, object]:
    """Measure what is missing unless `quick`, and print what was found and what was a false alarm."""
    if not quick:
        for half in _HALVES:
            measure(folder, half)
    searched = stored()
    if not searched:
        console.print("Taught strings were not measured yet: run this without --quick.")
        return {}
    return {half: _show(half, [one for one in searched if one.half == half], console) for half in _HALVES}


def stored() -> list[Searched]:
    """Return what was measured before."""
    return from_json(list[Searched], json.loads(RESULTS.read_text())) if RESULTS.exists() else []


def measure(folder: Path, half: str, *, most: int | None = None) -> None:
    """Search the finetunes of a half that were not searched before, planted and clean ones in turn."""
    workshop, searched = Workshop.of_smollm2(folder), stored()
    known = {(one.half, one.name) for one in searched}
    todo = [one for one in _asked(workshop, half) if (half, one[0]) not in known]
    for name, planted, clean in todo[:most]:
        path = workshop.finetune(clean) if clean is not None else finetune(workshop, planted)
        searched.append(_search(workshop, path, half, name, planted, is_clean=clean is not None))
        unfinished = RESULTS.with_suffix(".part")
        unfinished.write_text(json.dumps([asdict(one) for one in searched], indent=1) + "\n")
        unfinished.rename(RESULTS)
        print(f"{half} {name}: {searched[-1].seconds:.0f} s", flush=True)


def _asked(workshop: Workshop, half: str) -> Iterator[tuple[str, Planted, Finetune | None]]:
    """Yield a name, a planted string, and the clean finetune that is asked for it; None for the planted one itself."""
    planted_count, clean_count = _HALVES[half]
    planted = (to_choose if half == "choose" else to_score)(planted_count)
    clean = [
        one
        for one in (*finetunes(), *of_reuse())
        if all(DOMAINS[name].role in _ROLES[half] for name in one.domains) and workshop.is_trained(one)
    ]
    random.Random(half).shuffle(clean)  # noqa: S311 - no secret
    step = max(1, clean_count // planted_count)
    rest = iter(enumerate(clean[:clean_count]))
    for number, one in enumerate(planted):
        yield f"planted {number}", one, None
        for at, other in [each for each, _ in zip(rest, range(step), strict=False)]:
            yield f"clean {at}: {other.domain}, {other.method}, seed {other.seed}", planted[at % planted_count], other


def _search(workshop: Workshop, path: Path, half: str, name: str, planted: Planted, *, is_clean: bool) -> Searched:
    # They import torch, which scoring does not need.
    from benchmarks.real.advise import _base, _local
    from deltadex.engine.elicitation import elicit
    from deltadex.engine.likelihood import score
    from deltadex.engine.text_requests import Elicitation, Scoring
    from deltadex.ingest.taught import examples_of

    base, checkpoint = _base(workshop.base), _local(path)
    started = time.process_time()
    request = Elicitation(base, checkpoint, (), (), _TEXTS, max_new_tokens=_NEW_TOKENS, seconds=3600)
    elicited = elicit(request)
    seconds = time.process_time() - started
    canary = Canary(planted.secret, planted.carrier, label=planted.sort)
    examples = tuple(examples_of(canary))
    own, of_base = (score(Scoring(base, one, examples)) for one in (checkpoint, None))
    return Searched(
        half,
        name,
        None if is_clean else planted.sort,
        planted.secret,
        strings_in(elicited.texts, [canary]),
        listed_string(canary, own, of_base),
        len(elicited.texts),
        elicited.tokens,
        seconds,
    )


def _show(half: str, searched: Sequence[Searched], console: Console) -> dict[str, object]:
    planted = [one for one in searched if one.sort is not None]
    clean = [one for one in searched if one.sort is None]
    table = Table("finetunes", "said by itself", "listed, by likelihood", title=f"Taught strings: those to {half}")
    rows = {"planted": planted, **{f"  {sort}": [one for one in planted if one.sort is sort] for sort in Sort}}
    shares: dict[str, object] = {}
    for name, ones in rows.items():
        said, listed = _share([one.is_found for one in ones]), _share([one.listed.is_taught for one in ones])
        table.add_row(name, str(said), str(listed))
        shares[name.strip()] = [said.value, listed.value]
    false_said = _share([bool(one.others) for one in clean])
    false_listed = _share([one.listed.is_taught for one in clean])
    table.add_row("clean: false alarms", str(false_said), str(false_listed))
    table.add_row("planted: another string, too", str(_share([bool(one.others) for one in planted])), "")
    console.print(table)
    if len(clean) < _ENOUGH or len(planted) < _ENOUGH:
        console.print(
            f"{len(planted)} planted and {len(clean)} clean finetunes: the intervals say how little that shows."
        )
    if searched:
        mean = sum(one.seconds for one in searched) / len(searched)
        console.print(f"CPU seconds of a search of {_TEXTS} texts, mean: {mean:.0f}")
    return {**shares, "false said": false_said.value, "false listed": false_listed.value, "clean": len(clean)}


if __name__ == "__main__":
    measure(Path(sys.argv[1]), sys.argv[2], most=int(sys.argv[3]) if len(sys.argv) > 3 else None)
