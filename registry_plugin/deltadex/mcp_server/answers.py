"""Answers of the tools, read with the rights of the person who asks."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from deltadex.access import Person
from deltadex.drift.line import Step
from deltadex.drift.model_drift import ModelDrift, model_drift
from deltadex.duplicates.group import Group
from deltadex.duplicates.overview import redundancies
from deltadex.errors import AccessDenied
from deltadex.find import queries as task_searches
from deltadex.find.answers import CAVEAT, TaskModels
from deltadex.find.by_words import NOTHING_FOUND, models_with
from deltadex.find.mixtures import mixed_query, parse
from deltadex.find.search import models_for, models_like
from deltadex.mcp_server.untrusted import TEXT_CHARACTERS, quoted
from deltadex.mcp_server.values import (
    MOST,
    DriftAnswer,
    DuplicatesAnswer,
    FindAnswer,
    FindingsAnswer,
    ModelAnswer,
    NeighborsAnswer,
    SearchAnswer,
    ToldCandidate,
    ToldFinding,
    ToldGroup,
    ToldNeighbor,
    ToldState,
    ToldStep,
    ToldVersion,
    told_tags,
)
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import UNDECIDED
from deltadex.reviews.titles import label
from deltadex.search import reads as search
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, VersionRow
from deltadex.versions import reads as versions
from deltadex.versions.labels import known_version, parse_label, unknown

#: Neighbours in the description of a model.
_FEW = 3


def neighbors_answer(
    tx: Transaction,
    viewer: Person,
    settings: Settings,
    version: str,
    *,
    limit: int = 10,
    min_similarity: float = -1.0,
) -> NeighborsAnswer:
    """Return the versions closest to `NAME/VERSION`; raises DeltadexError if the viewer knows no such version."""
    row = known_version(tx, viewer, settings.registry, *parse_label(version))
    found = search.neighbors(tx, viewer, row.id, k=min(limit, MOST), min_similarity=min_similarity)
    note = "" if found.neighbors else "It has no embedding, is too weak to compare, or there is nothing to compare."
    near = tuple(ToldNeighbor(ToldVersion.of(one.version, settings), one.similarity) for one in found.neighbors)
    return NeighborsAnswer(quoted(row.label), near, found.is_exact, note)


def duplicates_answer(
    tx: Transaction, viewer: Person, settings: Settings, *, name: str | None = None, limit: int = 10
) -> DuplicatesAnswer:
    """Return groups of redundant versions, or those with a version of one registered model."""
    if name is not None and not versions.find(tx, viewer, settings.registry, name):
        raise unknown(quoted(name))
    groups = [
        group
        for recipe in redundancies(tx, viewer, settings)
        for group in recipe.groups
        if name is None or any(row.registered.ref.name == name for row in group.versions)
    ]
    shown = groups[: min(limit, MOST)]
    return DuplicatesAnswer(tuple(_group(one, settings) for one in shown), len(groups) - len(shown))


def drift_answer(tx: Transaction, viewer: Person, settings: Settings, name: str) -> DriftAnswer:
    """Return the steps of a registered model; raises DeltadexError if the viewer knows no such model."""
    if not versions.find(tx, viewer, settings.registry, name):
        raise unknown(quoted(name))
    found = model_drift(tx, viewer, settings.registry, name, thresholds=settings.thresholds)
    if found is None:
        return DriftAnswer(quoted(name), (), note="Fewer than two of its versions can be placed.")
    steps = tuple(_step(found, place, step) for place, step in enumerate(found.steps))
    return DriftAnswer(quoted(name), steps[-MOST:], found.limit)


def findings_answer(
    tx: Transaction,
    viewer: Person,
    settings: Settings,
    *,
    version: str | None = None,
    kinds: Collection[FindingKind] = (),
    undecided: bool = True,
    limit: int = 10,
) -> FindingsAnswer:
    """Return findings, of one `NAME/VERSION` or of all; by default those that need a decision."""
    version_id = None
    if version is not None:
        version_id = known_version(tx, viewer, settings.registry, *parse_label(version)).id
    rows = reviews.listing(tx, viewer, settings, kinds=kinds or tuple(FindingKind), version_id=version_id)
    wanted = [row for row in rows if not undecided or (row.is_found and row.review.status in UNDECIDED)]
    shown = wanted[: min(limit, MOST)]
    return FindingsAnswer(tuple(ToldFinding.of(row, settings) for row in shown), len(wanted) - len(shown))


def find_answer(
    tx: Transaction,
    viewer: Person,
    settings: Settings,
    *,
    words: str = "",
    like: str = "",
    base: str | None = None,
    limit: int = 10,
) -> FindAnswer:
    """Return models by words in names, tags, descriptions and promoted tokens, or like a mixture of known ones."""
    if like:
        query = mixed_query(tx, viewer, settings, parse(like), base=base)
        return _task_models(models_like(tx, viewer, query, k=min(limit, MOST)), settings)
    found = models_with(tx, viewer, settings.registry, words, k=min(limit, MOST))
    models = tuple(ToldCandidate(ToldVersion.of(one.version, settings), one.places) for one in found)
    return FindAnswer(f"{len(models)} models match." if models else NOTHING_FOUND, models)


def search_answer(
    tx: Transaction, viewer: Person, settings: Settings, request: int, *, limit: int = 10
) -> SearchAnswer:
    """Return the state of a search by examples, and its models once it is done.

    Raises
    ------
    StoreError
        There is no such search.
    AccessDenied
        Another person asked for it.
    """
    row = task_searches.get(tx, settings.registry, request)
    if row.asked_by != viewer.name:
        raise AccessDenied(f"Search {request} is another person's", hint="Ask with find_by_examples.")
    if row.delta is None:
        return SearchAnswer(row.id, row.state, row.progress, quoted(row.reason, at_most=TEXT_CHARACTERS))
    found = models_for(tx, viewer, settings, row.delta, k=min(limit, MOST))
    return SearchAnswer(row.id, row.state, row.progress, result=_task_models(found, settings, note=CAVEAT))


def model_answer(tx: Transaction, viewer: Person, settings: Settings, name: str) -> ModelAnswer:
    """Return the facts of a registered model by its newest version, or of one `NAME/VERSION`."""
    rows = versions.find(tx, viewer, settings.registry, name)
    if not rows:
        row = known_version(tx, viewer, settings.registry, *parse_label(name))
        rows = [row]
    newest = rows[0]
    near = search.neighbors(tx, viewer, newest.id, k=_FEW).neighbors
    open_findings = findings_answer(tx, viewer, settings, version=newest.label, limit=_FEW).findings
    return ModelAnswer(
        ToldVersion.of(newest, settings),
        newest.state,
        quoted(newest.reason, at_most=TEXT_CHARACTERS),
        quoted(newest.registered.description, at_most=TEXT_CHARACTERS),
        told_tags(newest),
        tuple(_state(row) for row in rows[:MOST]),
        tuple(ToldNeighbor(ToldVersion.of(one.version, settings), one.similarity) for one in near),
        open_findings,
    )


def _state(row: VersionRow) -> ToldState:
    aliases = tuple(quoted(one) for one in row.registered.aliases[:MOST])
    return ToldState(quoted(row.label), row.state, row.registered_at.isoformat(timespec="seconds"), aliases)


def _group(one: Group, settings: Settings) -> ToldGroup:
    proposal = one.proposal
    retired = _listed(label(row) for row in proposal.retired)
    keep = None if proposal.keeper is None else quoted(label(proposal.keeper))
    why = quoted(proposal.reason, at_most=TEXT_CHARACTERS)
    said = f"{one.kind.verb} {retired}; the one to keep: {why}" if keep else f"nothing: {why}"
    told = tuple(ToldVersion.of(row, settings) for row in one.versions[:MOST])
    return ToldGroup(one.kind, told, one.lowest_similarity, keep, said)


def _step(found: ModelDrift, place: int, step: Step) -> ToldStep:
    remark = step.broken or step.in_words
    if step.back_to is not None:
        remark = f"back to {label(found.versions[step.back_to])}"
    distance = None if step.previous is None else step.previous.distance
    said = quoted(remark, at_most=TEXT_CHARACTERS)
    return ToldStep(quoted(label(found.versions[place + 1])), distance, step.is_drift, said)


def _task_models(found: TaskModels, settings: Settings, *, note: str = "") -> FindAnswer:
    models = tuple(
        ToldCandidate(
            ToldVersion.of(one.version, settings),
            similarity=one.similarity,
            domain=quoted(one.cluster.name) if one.cluster else "",
            promotes=tuple(quoted(word, at_most=40) for word in one.words),
        )
        for one in found.models
    )
    said = quoted(found.in_words, at_most=TEXT_CHARACTERS)
    return FindAnswer(said, models, note or quoted(found.note, at_most=TEXT_CHARACTERS))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(quoted(name) for name in [*names][:MOST])
