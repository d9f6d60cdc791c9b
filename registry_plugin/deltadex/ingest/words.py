"""Recomputation of words as what tells a model apart from the other models of its base.

All finetunes of a base promote much the same tokens. On the real pools (`benchmarks.real`) this common shift outweighs
what is a model's own, and the mean of five models is enough to subtract it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from deltadex.app import App
from deltadex.bases.own_method import own_method
from deltadex.downloads.cache import open_cache
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.engine import shared
from deltadex.engine.probes import METHODS
from deltadex.errors import DeltadexError
from deltadex.ingest.resolve import Bases

#: Fewest models of a base whose mean shift is subtracted.
FEWEST_MODELS = 5
#: Most models with which all words are recomputed for each new model; it takes a second.
_FEW_MODELS = 200
#: Versions whose words are read in one request.
_AT_ONCE = 256

log = logging.getLogger(__name__)


def tell_apart_where_due(app: App) -> int:
    """Recompute the words of versions that were told apart from too few models, and return their number.

    Of up to `_FEW_MODELS` models all have to be among those; of more, half. A recipe whose base this worker can't read
    is left for another one, or for later; one that another method than the registry's own made, for good.
    """
    count = 0
    with app.database.transaction() as tx:
        probe_set = METHODS[own_method(tx, app.registry.name)].probe_set
        known = embeddings.recipes(tx, app.registry.name) if app.settings.embedding.words else []
    recipes = [recipe for recipe in known if recipe.probe_set == probe_set]
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
        needed = models if models <= _FEW_MODELS else models // 2
        due = promoted_tokens.outdated(tx, recipe.id, registry, fewer_than=needed) if models >= FEWEST_MODELS else []
    if not due:
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
