"""Recomputation of words as what tells a model apart from the other models of its base.

All finetunes of a base promote much the same tokens. On the real pools (`benchmarks.real`) this common shift outweighs
what is a model's own, and the mean of five models is enough to subtract it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from deltadex.app import App
from deltadex.downloads.cache import open_cache
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.engine import shared
from deltadex.errors import DeltadexError
from deltadex.ingest.resolve import Bases

#: Fewest models of a base whose mean shift is subtracted.
FEWEST_MODELS = 5
#: Versions whose words are read in one request.
_AT_ONCE = 256

log = logging.getLogger(__name__)


def tell_apart_where_due(app: App) -> int:
    """Recompute the words of recipes that have twice as many models as when they were told apart; return their number.

    A recipe whose base this worker can't read is left for another one, or for later.
    """
    count = 0
    with app.database.transaction() as tx:
        recipes = embeddings.recipes(tx, app.registry.name)
    for recipe in recipes:
        try:
            count += _tell_apart(app, recipe)
        except DeltadexError as error:
            log.warning("words not told apart recipe=%s error=%r", recipe.digest[:12], error.message)
    return count


def _tell_apart(app: App, recipe: RecipeRow) -> int:
    registry, settings = app.registry.name, app.settings
    with app.database.transaction() as tx:
        mean, models = embeddings.mean_of_models(tx, recipe.id, registry)
        due = promoted_tokens.outdated(tx, recipe.id, registry, among=models)
    if models < FEWEST_MODELS or not due:
        return 0
    with shared.embedding_process(settings) as process, open_cache(settings).holding() as hold:
        base = Bases(app, hold).fetch(recipe.base_name, process)
        for start in range(0, len(due), _AT_ONCE):
            with app.database.transaction() as tx:
                table = embeddings.table(tx, recipe.id, registry=registry, ids=due[start : start + _AT_ONCE])
            shifts = table.vectors - mean
            seconds = settings.embedding.deadline_seconds
            words = process.words(base, recipe.base_digest, shifts, deadline_seconds=seconds)
            told = {
                row.id: replace(one, among=models) for row, one in zip(table.rows, words, strict=True) if not one.note
            }
            app.database.run(partial(promoted_tokens.replace, recipe_id=recipe.id, told=told))
    return len(due)
