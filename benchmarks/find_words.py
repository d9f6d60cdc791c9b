"""Time of a search by words, in this process, over a registry of five versions per model.

python -m benchmarks.find_words [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.store_company import REGISTRY, Company, load, scratch_database
from benchmarks.synthetic_vectors import SyntheticVectors
from deltadex.access import Person, Role
from deltadex.find.by_words import models_with
from deltadex.store.database import Database

_DIMENSION = 16
_SEARCHES = 21
_ASKED = ("model tenth", "word17 word23", "nothing of this kind")
_ADMIN = Person("benchmark", Role.ADMIN)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 versions only")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    results = []
    for count in (10_000,) if options.quick else (10_000, 50_000):
        with tempfile.TemporaryDirectory() as folder, scratch_database(Path(folder)) as database:
            company = load(database, SyntheticVectors(count, _DIMENSION), Path(folder))
            _add_words(database, company)
            results += [{"versions": count, "words": words, **_measured(company, words)} for words in _ASKED]
    table = Table("versions", "models", "words", "median ms", "CPU ms", title="search by words")
    for one in results:
        cells = (f"{one['versions']:,}", f"{one['versions'] // 5:,}", one["words"])
        table.add_row(*cells, f"{one['milliseconds']:.0f}", f"{one['cpu_milliseconds']:.0f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def _measured(company: Company, words: str) -> dict[str, float]:
    times = []
    with company.database.transaction() as tx:
        before = company.cpu_seconds()
        for _ in range(_SEARCHES):
            started = time.perf_counter()
            models_with(tx, _ADMIN, REGISTRY, words)
            times.append(time.perf_counter() - started)
        used = company.cpu_seconds() - before
    return {"milliseconds": 1000 * median(times), "cpu_milliseconds": 1000 * used / _SEARCHES}


def _add_words(database: Database, company: Company) -> None:
    """Give each version thirty promoted tokens out of a thousand."""
    with database.transaction() as tx:
        tx.execute(
            """
            insert into words (model_version_id, recipe_id, weights_digest, promoted, demoted, note)
            select model_version_id, recipe_id, weights_digest, (
                select jsonb_agg(jsonb_build_array('word' || mod(model_version_id * 31 + each * 37, 1000), 2.0))
                from generate_series(1, 30) each), '[]', ''
            from embeddings where recipe_id = %s
            """,
            [company.recipe_id],
        )
    with database.connect() as connection:
        connection.commit()
        connection.autocommit = True
        connection.execute("analyze")


if __name__ == "__main__":
    main()
