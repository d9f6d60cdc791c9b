"""Tags of registered models in MLflow: those that a field reads are kept, and what people state is written back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from deltadex.app import App
from deltadex.errors import RegistryError
from deltadex.ownership import queries
from deltadex.ownership.facts import OwnershipField, by_tags, kept_tags, tags_of
from deltadex.ownership.queries import KnownModel, OutdatedTags
from deltadex.registry.client import RegisteredModel
from deltadex.registry.tags import tag_model
from deltadex.setting_groups import OwnershipSettings
from deltadex.settings import Settings
from deltadex.store.database import Transaction

#: Limit per round; writing a tag takes 70 ms.
_MODELS_PER_ROUND = 50

log = logging.getLogger(__name__)


def keep_tags(tx: Transaction, settings: Settings, listed: Mapping[str, RegisteredModel]) -> None:
    """Store the tags of registered models; those renamed keep what is stated, those created again start with nothing.

    Parameters
    ----------
    listed
        All registered models of MLflow by name.
    """
    known = queries.known_models(tx, settings.registry)
    by_name = {one.name: one for one in known if one.name in listed and not _is_another(one, listed[one.name])}
    # A name that another model has now may be of one that was renamed: they exchanged names.
    lost = [one for one in known if one.name not in by_name]
    by_creation = {one.created_ms: one for one in lost if one.created_ms is not None}
    stored, renamed = list[KnownModel](), set[int]()
    for name, model in listed.items():
        found = by_name.get(name)
        if found is None and model.created_ms is not None and (found := by_creation.pop(model.created_ms, None)):
            renamed.add(found.id)
        now = _as_known(found.id if found else 0, name, model.created_ms, model.tags, settings.ownership)
        if now != found:
            stored.append(now)
    if gone := [one.id for one in lost if one.name in listed and one.id not in renamed]:
        queries.mark_gone(tx, gone)
    if stored:
        queries.store(tx, settings.registry, stored)


def _is_another(known: KnownModel, listed: RegisteredModel) -> bool:
    """Return True if a name was given to another model since."""
    return None not in (known.created_ms, listed.created_ms) and known.created_ms != listed.created_ms


def write_back_stated(app: App) -> int:
    """Write what people state to the tags of MLflow; return the number of models. Failed writes are retried."""
    names: Mapping[str, str] = {field: tags[0] for field, tags in tags_of(app.settings.ownership).items()}
    pending = app.database.run(
        lambda tx: queries.with_outdated_tags(tx, app.registry.name, tags=names, limit=_MODELS_PER_ROUND)
    )
    written = 0
    for one in pending:
        wanted = {names[field]: value for field, value in one.stated.items()}
        removed = {names[field] for field in one.withdrawn}
        try:
            tag_model(app.registry, one.name, {key: text for key, text in wanted.items() if one.tags.get(key) != text})
            tag_model(app.registry, one.name, dict.fromkeys(removed & one.tags.keys()))
        except RegistryError as error:
            log.warning("not tagged model=%s error=%r", one.name, error.message)
            continue
        app.database.run(partial(_mark, one=one, wanted=wanted, removed=removed, settings=app.settings.ownership))
        written += 1
    return written


def _mark(
    tx: Transaction, one: OutdatedTags, wanted: Mapping[str, str], removed: set[str], settings: OwnershipSettings
) -> None:
    tags = {key: text for key, text in {**one.tags, **wanted}.items() if key not in removed}
    queries.mark_tagged(tx, _as_known(one.id, one.name, None, tags, settings), one.entry_id)


def _as_known(
    id_: int, name: str, created_ms: int | None, tags: Mapping[str, str], settings: OwnershipSettings
) -> KnownModel:
    kept = kept_tags(tags, settings)
    owner, tier = (
        by_tags(kept, field, settings).value or None for field in (OwnershipField.OWNER, OwnershipField.TIER)
    )
    return KnownModel(id_, name, created_ms, kept, owner, tier)
