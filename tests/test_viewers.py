"""Every read of a page or command, for viewers who may see one model each: nothing leaks about the others."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

import deltadex
import deltadex_dashboard
from deltadex.access import HIDDEN, Person, Role, system_user
from deltadex.across import reads as across
from deltadex.advise import reads as advice
from deltadex.catalog import listing as catalog
from deltadex.catalog.wanted import Wanted
from deltadex.checks import check as checks
from deltadex.checks.conditions import parse_fail_on
from deltadex.cli import app
from deltadex.clusters import dendrogram
from deltadex.clusters import reads as visible_clusters
from deltadex.clusters import runs as cluster_runs
from deltadex.comparison.compare_two import compare_two
from deltadex.drift import compare, model_drift
from deltadex.duplicates import overview
from deltadex.duplicates.standing_queries import standings
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import reads as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.endpoint import queries as sent_texts
from deltadex.errors import AccessDenied, DeltadexError, StoreError
from deltadex.evidence import facts as evidence
from deltadex.evidence.by_alias import packs_with_alias
from deltadex.evidence.pack import evidence_pack
from deltadex.find import search as task_search
from deltadex.find.by_words import models_with
from deltadex.find.mixtures import Part, mixed_query
from deltadex.find.queries import TaskDelta
from deltadex.geometry import reads as geometry
from deltadex.ingest import backfill
from deltadex.justify.sources import source_texts
from deltadex.lineage.graph import lineage
from deltadex.lineage.remarks import base_and_remarks
from deltadex.map import chart as maps
from deltadex.mcp_server import answers
from deltadex.merge.methods import MergeMethod
from deltadex.merge.plan import plan
from deltadex.ownership import chain as ownership_chain
from deltadex.ownership import inventory
from deltadex.ownership import reads as ownership
from deltadex.replay import reads as replays
from deltadex.reports import governance
from deltadex.reviews import actions as reviews
from deltadex.safety import reads as safety
from deltadex.search import reads as search
from deltadex.search.filters import Conditions
from deltadex.search.query_vector import Questions
from deltadex.selection.rank import rank
from deltadex.selection.ranking import Metric, RankBy
from deltadex.setting_groups import DatabaseSettings, ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.store.migrate import migrate
from deltadex.taught import reads as taught
from deltadex.versions import reads as versions
from deltadex.witness import reads as witnesses
from deltadex.witness.compare import Answers
from tests.stored import ADMIN, REGISTRY
from tests.strangers import DIMENSION, Strangers, fill

SETTINGS = Settings(registry=REGISTRY)
EVIDENCE_SETTINGS = Settings(registry=REGISTRY, evidence={"pseudonym_key": "k" * 32})
THRESHOLDS = ThresholdSettings()


@pytest.fixture(scope="module")
def url(postgres_url: str) -> str:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database strangers")
    return make_conninfo(postgres_url, dbname="strangers")


@pytest.fixture(scope="module")
def strangers(url: str) -> Strangers:
    """What is in a store that the tests of this module only read."""
    with Database(url) as database:
        migrate(database)
        return fill(database, Settings(registry=REGISTRY, database=DatabaseSettings(url=url)))


@pytest.fixture
def tx(url: str, strangers: Strangers) -> Iterator[Transaction]:
    with Database(url) as database, database.transaction() as tx:
        yield tx


Read = Callable[[Transaction, Person, Strangers], object]


def recipe(tx: Transaction, viewer: Person) -> RecipeRow:
    return embeddings.recipes(tx, viewer, REGISTRY)[0]


def of_recipes(read: Callable[[Transaction, Person, RecipeRow], object]) -> Read:
    return lambda tx, viewer, made: [read(tx, viewer, each) for each in embeddings.recipes(tx, viewer, REGISTRY)]


def of_versions(read: Callable[[Transaction, Person, int], object]) -> Read:
    return lambda tx, viewer, made: [read(tx, viewer, each) for ids in made.ids.values() for each in ids]


def of_models(read: Callable[[Transaction, Person, str], object]) -> Read:
    return lambda tx, viewer, made: [read(tx, viewer, name) for name in made.ids]


def proofs(tx: Transaction, viewer: Person) -> list[object]:
    found: list[object] = []
    for entry in reviews.log(tx, ADMIN, SETTINGS):
        try:
            found.append(reviews.prove(tx, viewer, SETTINGS, entry.id))
        except AccessDenied as refused:
            found.append(refused.message)
    return found


def parts_of_the_log(tx: Transaction, viewer: Person, made: Strangers) -> list[object]:
    return [reviews.prove_about(tx, viewer, SETTINGS, each) for ids in made.ids.values() for each in ids]


def packs(tx: Transaction, viewer: Person, made: Strangers) -> list[object]:
    """Make a pack about each model of which the viewer may see a version; of others there is none."""
    found: list[object] = []
    for name, ids in [*list(made.ids.items())[:3], (made.based, made.ids[made.based])]:
        if viewer.sees(name):
            found.append(evidence_pack(tx, viewer, EVIDENCE_SETTINGS, ids[0]))
            continue
        with pytest.raises(DeltadexError, match="not known"):
            evidence_pack(tx, viewer, EVIDENCE_SETTINGS, ids[0])
    return found


def refusals(tx: Transaction, viewer: Person, version_id: int) -> str:
    try:
        versions.require_readable(tx, viewer, version_id)
    except DeltadexError as error:
        return f"{error.message} {error.hint}"
    return ""


def packs_by_alias(tx: Transaction, viewer: Person, made: Strangers) -> list[object]:
    """Ask for an alias that one model has, which is no secret to who asks."""
    [row] = versions.find(tx, ADMIN, REGISTRY, made.based, 1)
    [alias] = row.registered.aliases
    try:
        return [packs_with_alias(tx, viewer, EVIDENCE_SETTINGS, alias)]
    except DeltadexError as refused:
        return [refused.message.replace(alias, "")]


def evidence_facts(tx: Transaction, viewer: Person, made: Strangers) -> list[object]:
    return [
        evidence.facts(tx, viewer, EVIDENCE_SETTINGS, each)
        for name, ids in made.ids.items()
        for each in ids
        if viewer.sees(name)
    ]


def replays_of_all(tx: Transaction, viewer: Person, made: Strangers) -> list[object]:
    newest = [ids[0] for ids in made.ids.values()]
    return [replays.latest_between(tx, viewer, SETTINGS, *pair) for pair in combinations(newest, 2)]


def ranked_of_all(tx: Transaction, viewer: Person, made: Strangers) -> list[object]:
    questions = Questions(made.recipe_id, REGISTRY, vector())
    loss = Metric("eval_loss", lower_is_better=True)
    return [
        rank(tx, viewer, found.neighbors, recipe_id=made.recipe_id, registry=REGISTRY, by=RankBy.BOTH, metric=loss)
        for found in search.answer(tx, viewer, questions, k=100)
    ]


def first_replay(tx: Transaction, viewer: Person) -> object:
    try:
        return replays.get(tx, viewer, SETTINGS, 1)
    except StoreError as refused:
        return refused.message


def first_taught(tx: Transaction, viewer: Person) -> object:
    try:
        return taught.get(tx, viewer, SETTINGS, 1, is_revealed=True)
    except StoreError as refused:
        return refused.message


def first_measurement(tx: Transaction, viewer: Person) -> object:
    try:
        return safety.request(tx, viewer, SETTINGS, 1)
    except StoreError as refused:
        return refused.message


def mixed(tx: Transaction, viewer: Person, made: Strangers) -> list[object]:
    """Ask for every word, model and version as a mixture, and for what is like it."""
    found: list[object] = []
    labels = [row.label for row in versions.listing(tx, ADMIN, REGISTRY)]
    for name in dict.fromkeys([*made.words, *made.ids, *labels]):
        try:
            query = mixed_query(tx, viewer, SETTINGS, [Part(name)])
            found += [query.meant, task_search.models_like(tx, viewer, query, k=100)]
        except DeltadexError as refused:
            # It repeats what was asked, which is no secret to who asks.
            found += [refused.message.replace(repr(name), ""), refused.hint]
    return found


def vector() -> np.ndarray:
    return np.eye(3, DIMENSION, dtype=np.float32)


def checked(tx: Transaction, viewer: Person, made: Strangers) -> list[object]:
    """Check every version that the viewer may see; the others are as unknown to them, whatever they ask."""
    labels = [
        row.registered.ref for row in versions.listing(tx, ADMIN, REGISTRY) if viewer.sees(row.registered.ref.name)
    ]
    conditions = parse_fail_on("any")
    return [checks.check(tx, viewer, SETTINGS, one.name, one.version, fail_on=conditions) for one in labels]


def refused_base(tx: Transaction, viewer: Person) -> object:
    with pytest.raises(DeltadexError) as refused:
        task_search.known_base(tx, viewer, SETTINGS, "another")
    return [refused.value.message, refused.value.hint]


def refused_search(tx: Transaction, viewer: Person) -> object:
    try:
        return answers.search_answer(tx, viewer, SETTINGS, 1)
    except DeltadexError as refused:
        return refused.message


def told(tx: Transaction, viewer: Person, ask: Callable[[str], object]) -> list[object]:
    """Ask a tool of the MCP server about every version."""
    found: list[object] = []
    for row in versions.listing(tx, ADMIN, REGISTRY):
        try:
            found.append(ask(row.label))
        except DeltadexError as refused:
            found.append(refused.message.replace(row.label, ""))
    return found


#: Every function of the library that reads for a viewer, and how all that it may say is asked of it.
READS: Mapping[Callable[..., object], Read] = {
    versions.listing: lambda tx, viewer, made: versions.listing(tx, viewer, REGISTRY),
    versions.require_readable: of_versions(refusals),
    versions.find: of_models(lambda tx, viewer, name: versions.find(tx, viewer, REGISTRY, name)),
    versions.names: lambda tx, viewer, made: versions.names(tx, viewer, REGISTRY),
    versions.history: of_versions(versions.history),
    versions.sees_versions: of_versions(versions.sees_versions),
    catalog.listing: lambda tx, viewer, made: [
        catalog.listing(tx, viewer, REGISTRY, each, size=100)
        for each in (Wanted(), *(Wanted(domain=word) for word in made.words))
    ],
    catalog.choices: lambda tx, viewer, made: catalog.choices(tx, viewer, REGISTRY),
    catalog.labels: lambda tx, viewer, made: catalog.labels(tx, viewer, REGISTRY),
    ownership.of_model: of_models(lambda tx, viewer, name: ownership.of_model(tx, viewer, SETTINGS, name)),
    ownership.of_models: lambda tx, viewer, made: ownership.of_models(tx, viewer, SETTINGS),
    ownership.history: of_models(lambda tx, viewer, name: ownership.history(tx, viewer, SETTINGS, name)),
    ownership_chain.verify: lambda tx, viewer, made: ownership_chain.verify(tx, viewer),
    inventory.inventory: lambda tx, viewer, made: inventory.inventory(tx, viewer, SETTINGS),
    across.counterparts: of_versions(lambda tx, viewer, each: across.counterparts(tx, viewer, REGISTRY, each, k=100)),
    across.coverage: lambda tx, viewer, made: across.coverage(tx, viewer, REGISTRY),
    across.across_map: lambda tx, viewer, made: across.across_map(tx, viewer, REGISTRY),
    backfill.overview: lambda tx, viewer, made: backfill.overview(tx, viewer, REGISTRY),
    embeddings.recipes: lambda tx, viewer, made: embeddings.recipes(tx, viewer, REGISTRY),
    embeddings.of_version: of_versions(embeddings.of_version),
    embeddings.same_weights: of_versions(embeddings.same_weights),
    promoted_tokens.of_version: of_versions(promoted_tokens.of_version),
    search.neighbors: of_versions(lambda tx, viewer, each: search.neighbors(tx, viewer, each, k=None)),
    search.answer: lambda tx, viewer, made: search.answer(
        tx, viewer, Questions(made.recipe_id, REGISTRY, vector()), k=None
    ),
    visible_clusters.listing: lambda tx, viewer, made: visible_clusters.listing(tx, viewer, made.recipe_id, REGISTRY),
    visible_clusters.names: lambda tx, viewer, made: visible_clusters.names(tx, viewer, REGISTRY),
    visible_clusters.called: lambda tx, viewer, made: [
        visible_clusters.called(tx, viewer, REGISTRY, one.name)
        for one in visible_clusters.listing(tx, ADMIN, made.recipe_id, REGISTRY)
    ],
    dendrogram.joins: lambda tx, viewer, made: dendrogram.joins(tx, viewer, made.recipe_id, REGISTRY),
    cluster_runs.domains: of_recipes(lambda tx, viewer, each: cluster_runs.domains(tx, viewer, REGISTRY, each)),
    cluster_runs.explain: of_versions(lambda tx, viewer, each: cluster_runs.explain(tx, viewer, REGISTRY, each)),
    model_drift.lines: lambda tx, viewer, made: model_drift.lines(tx, viewer, REGISTRY),
    model_drift.model_drift: of_models(
        lambda tx, viewer, name: model_drift.model_drift(tx, viewer, REGISTRY, name, thresholds=THRESHOLDS)
    ),
    compare.compare: of_versions(lambda tx, viewer, each: compare.compare(tx, viewer, recipe(tx, viewer), each, each)),
    compare_two: lambda tx, viewer, made: [
        compare_two(tx, viewer, SETTINGS, ids[0], made.ids[other][-1])
        for (other, ids) in zip([*list(made.ids)[1:], next(iter(made.ids))], made.ids.values(), strict=True)
    ],
    lineage: of_versions(lineage),
    source_texts: of_versions(lambda tx, viewer, each: source_texts(tx, viewer, [each])),
    sent_texts.listing: lambda tx, viewer, made: sent_texts.listing(tx, viewer, REGISTRY, limit=10),
    base_and_remarks: of_versions(base_and_remarks),
    overview.redundancies: lambda tx, viewer, made: [
        overview.redundancies(tx, viewer, SETTINGS, similarity=each) for each in (None, 0.5)
    ],
    models_with: lambda tx, viewer, made: models_with(tx, viewer, REGISTRY, " ".join(made.words), k=100),
    standings: lambda tx, viewer, made: standings(tx, viewer, SETTINGS, versions.listing(tx, ADMIN, REGISTRY)),
    overview.candidates: lambda tx, viewer, made: [each.groups() for each in overview.candidates(tx, viewer, SETTINGS)],
    geometry.latest: of_recipes(lambda tx, viewer, each: geometry.latest(tx, viewer, REGISTRY, each)),
    maps.chart: of_recipes(lambda tx, viewer, each: maps.chart(tx, viewer, REGISTRY, each)),
    plan: lambda tx, viewer, made: [
        plan(tx, viewer, pair, method=MergeMethod.CAT, weights=(0.5, 0.5))
        for pair in (
            *combinations([ids[0] for ids in made.ids.values()], 2),
            *(ids[:2] for ids in made.ids.values() if len(ids) > 1),
        )
    ],
    maps.too_weak: lambda tx, viewer, made: maps.too_weak(tx, viewer, REGISTRY),
    task_search.bases: lambda tx, viewer, made: task_search.bases(tx, viewer, SETTINGS),
    task_search.known_base: lambda tx, viewer, made: refused_base(tx, viewer),
    task_search.get: lambda tx, viewer, made: task_search.get(tx, viewer, SETTINGS, 1),
    task_search.models_for: lambda tx, viewer, made: [
        task_search.models_for(tx, viewer, SETTINGS, TaskDelta(one.digest, each, 0.1, 1.0, ""))
        for one in embeddings.recipes(tx, viewer, REGISTRY)
        for each in vector()
    ],
    rank: ranked_of_all,
    task_search.models_like: mixed,
    mixed_query: mixed,
    replays.get: lambda tx, viewer, made: first_replay(tx, viewer),
    replays.latest_between: replays_of_all,
    checks.check: checked,
    answers.neighbors_answer: lambda tx, viewer, made: told(
        tx, viewer, lambda each: answers.neighbors_answer(tx, viewer, SETTINGS, each, limit=25)
    ),
    answers.model_answer: lambda tx, viewer, made: told(
        tx, viewer, lambda each: answers.model_answer(tx, viewer, SETTINGS, each)
    ),
    answers.duplicates_answer: lambda tx, viewer, made: answers.duplicates_answer(tx, viewer, SETTINGS, limit=25),
    answers.drift_answer: lambda tx, viewer, made: [
        answers.drift_answer(tx, viewer, SETTINGS, name) for name in made.ids if viewer.sees(name)
    ],
    answers.findings_answer: lambda tx, viewer, made: answers.findings_answer(
        tx, viewer, SETTINGS, undecided=False, limit=25
    ),
    answers.find_answer: lambda tx, viewer, made: [
        answers.find_answer(tx, viewer, SETTINGS, words=" ".join(made.words), limit=25),
        *told(tx, viewer, lambda each: answers.find_answer(tx, viewer, SETTINGS, like=each, limit=25)),
    ],
    answers.search_answer: lambda tx, viewer, made: refused_search(tx, viewer),
    safety.request: lambda tx, viewer, made: first_measurement(tx, viewer),
    safety.latest: of_versions(safety.latest),
    safety.measured: of_versions(lambda tx, viewer, each: safety.measured(tx, viewer, SETTINGS, each)),
    taught.get: lambda tx, viewer, made: first_taught(tx, viewer),
    taught.latest_of: lambda tx, viewer, made: [
        taught.latest_of(tx, viewer, SETTINGS, ids[0], is_revealed=True) for ids in made.ids.values()
    ],
    advice.get: lambda tx, viewer, made: advice.get(tx, viewer, SETTINGS, 1),
    reviews.listing: lambda tx, viewer, made: reviews.listing(tx, viewer, SETTINGS),
    reviews.get: lambda tx, viewer, made: [
        reviews.get(tx, viewer, SETTINGS, row.id) for row in reviews.listing(tx, ADMIN, SETTINGS)
    ],
    reviews.history: lambda tx, viewer, made: reviews.history(
        tx, viewer, SETTINGS, *(row.id for row in reviews.listing(tx, ADMIN, SETTINGS))
    ),
    reviews.log: lambda tx, viewer, made: reviews.log(tx, viewer, SETTINGS),
    reviews.count_by_rule: lambda tx, viewer, made: reviews.count_by_rule(tx, viewer, SETTINGS, "sandbox"),
    reviews.verify: lambda tx, viewer, made: reviews.verify(tx, viewer),
    witnesses.witness_states: lambda tx, viewer, made: witnesses.witness_states(tx, viewer, SETTINGS),
    witnesses.head_comparisons: lambda tx, viewer, made: witnesses.head_comparisons(
        tx, viewer, SETTINGS, Answers({}, {}, {})
    ),
    reviews.prove: lambda tx, viewer, made: proofs(tx, viewer),
    reviews.prove_about: parts_of_the_log,
    evidence.facts: evidence_facts,
    evidence_pack: packs,
    packs_with_alias: packs_by_alias,
    governance.governance_report: lambda tx, viewer, made: governance.governance_report(tx, viewer, SETTINGS),
}


def name_of(read: Callable[..., object]) -> str:
    return f"{read.__module__}.{read.__name__}"


def texts(value: object) -> Iterator[str]:
    """Yield every text anywhere in a value."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from texts(getattr(value, each.name))
    elif isinstance(value, Mapping):
        yield from texts([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from texts(each)


def said_of(value: object, words: set[str]) -> set[str]:
    said = "\n".join(texts(value)).casefold()
    return {word for word in words if word in said}


def viewers(made: Strangers) -> Iterator[tuple[Person, set[str]]]:
    """Yield somebody for each model who may see that one only, and one who may see none, with what is hidden."""
    for name in made.ids:
        yield Person("eve", Role.VIEWER, (name,)), set(made.hidden_from(name))
    yield Person("eve", Role.VIEWER, ("no-such-model",)), set(made.hidden_from())


@pytest.mark.parametrize("read", READS, ids=name_of)
def test_a_read_says_nothing_of_hidden_models(
    tx: Transaction, strangers: Strangers, read: Callable[..., object]
) -> None:
    for viewer, hidden in viewers(strangers):
        leaked = said_of(READS[read](tx, viewer, strangers), hidden)
        assert not leaked, f"{viewer.models} are told of {sorted(leaked)}"


#: Reads that answer with numbers, or with whether something is so, or that name no models.
_WITHOUT_TEXT = {
    versions.sees_versions, visible_clusters.called, compare.compare, reviews.count_by_rule, reviews.verify,
    embeddings.same_weights, standings, sent_texts.listing, answers.search_answer, witnesses.witness_states,
    witnesses.head_comparisons, ownership_chain.verify, safety.request, safety.latest, safety.measured,
}  # fmt: skip


@pytest.mark.parametrize("read", [each for each in READS if each not in _WITHOUT_TEXT], ids=name_of)
def test_who_may_see_all_models_is_told_of_them(
    tx: Transaction, strangers: Strangers, read: Callable[..., object]
) -> None:
    found = READS[read](tx, ADMIN, strangers)
    assert said_of(found, strangers.words), "so that the test above could fail"
    assert HIDDEN not in "".join(texts(found))


def test_a_cluster_keeps_what_a_visible_member_carries(tx: Transaction, strangers: Strangers) -> None:
    every = visible_clusters.listing(tx, ADMIN, strangers.recipe_id, REGISTRY)
    assert len(every) == 3
    for viewer, hidden in viewers(strangers):
        seen = visible_clusters.listing(tx, viewer, strangers.recipe_id, REGISTRY)
        for one, whole in zip(seen, every, strict=True):
            known = {whole.id} if one.name != HIDDEN else set()
            assert visible_clusters.called(tx, viewer, REGISTRY, whole.name) == known, "a hidden name is not confirmed"
            assert one.name == (HIDDEN if said_of(whole.label, hidden) else whole.name)
            assert {term.text for term in one.terms} <= {term.text for term in whole.terms}
    names = [
        visible_clusters.listing(tx, viewer, strangers.recipe_id, REGISTRY)[0].name for viewer, _ in viewers(strangers)
    ]
    assert 0 < names.count(HIDDEN) < len(names)


def test_conditions_tell_nothing_by_guessing(tx: Transaction, strangers: Strangers) -> None:
    [own, other, *_] = strangers.ids
    viewer, [version_id] = Person("eve", Role.VIEWER, (own,)), strangers.ids[own]
    [row] = versions.find(tx, ADMIN, REGISTRY, other)
    key, value = next(iter(row.registered.tags.items()))
    for guess in (
        Conditions(name=other),
        Conditions(alias=row.registered.aliases[0]),
        Conditions(tags={key: value}),
        Conditions(other_than="x", tags={key: value}),
    ):
        assert search.neighbors(tx, ADMIN, version_id, conditions=guess).neighbors
        assert not search.neighbors(tx, viewer, version_id, conditions=guess).neighbors
    masked = search.neighbors(tx, viewer, version_id, conditions=Conditions(states=frozenset({row.state}))).neighbors
    assert {one.version.registered.ref.name for one in masked} == {HIDDEN}


def test_every_function_that_takes_a_viewer_is_walked() -> None:
    [folder] = deltadex.__path__
    found = {
        ".".join(["deltadex", *path.relative_to(folder).with_suffix("").parts, each.name])
        for path in Path(folder).rglob("*.py")
        for each in ast.parse(path.read_text()).body
        if isinstance(each, ast.FunctionDef) and not each.name.startswith("_") and _takes_viewer(each)
    }
    # `known_version` raises instead of hiding, and conditions show nothing; the reads behind them are walked.
    others = {"deltadex.versions.labels.known_version", "deltadex.cli.filters.conditions_from"}
    assert found - others == {name_of(read) for read in READS}


def _takes_viewer(function: ast.FunctionDef) -> bool:
    return [each.arg for each in function.args.args[:2]] == ["tx", "viewer"]


#: Spaces, searches by examples, the watcher and deliveries are for everybody.
_ABOUT_MODELS = (
    "across", "versions", "clusters", "drift", "duplicates", "embeddings", "findings", "map", "geometry", "ownership",
    "replay", "reviews", "safety", "search", "taught",
)  # fmt: skip


def test_pages_and_commands_ask_no_queries_about_models() -> None:
    [library], [dashboard] = deltadex.__path__, deltadex_dashboard.__path__
    asking = [path for each in ("cli", "mlflow_plugin", "mcp_server") for path in Path(library, each).glob("*.py")]
    asked = {
        (path.name, f"{each.module}.{name.name}")
        for path in [*asking, *Path(dashboard).rglob("*.py")]
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, ast.ImportFrom) and (each.module or "").split(".")[1:2] in [[one] for one in _ABOUT_MODELS]
        for name in each.names
        if f"{each.module}.{name.name}".endswith((".queries", "search.neighbors"))
        or ((each.module or "").endswith((".queries", "search.neighbors")) and name.name.islower())
    }
    # The demo waits for its own models.
    assert asked == {("demo.py", "deltadex.versions.queries")}


@pytest.fixture
def variables(url: str, strangers: Strangers, tmp_path: Path) -> dict[str, str]:
    return {"DELTADEX_DATABASE__URL": url, "DELTADEX_REGISTRY": REGISTRY, "DELTADEX_DATA_DIR": str(tmp_path)}


def listed(folder: Path, *models: str) -> dict[str, str]:
    """Return the variable that names a list of people, on which the user of this machine may see these models."""
    file = folder / "people.json"
    file.write_text(json.dumps({"people": {system_user(): {"role": "viewer", "models": models}}}))
    return {"DELTADEX_ACCESS__FILE": str(file)}


def commands(name: str, folder: Path) -> list[list[str]]:
    return [
        ["status"], ["status", name], ["models"], ["models", name], ["drift", name],
        ["duplicates"], ["duplicates", "--threshold", "0.5"],
        ["clusters"], ["explain", f"{name}/1"], ["compare", f"{name}/1", f"{name}/1"], ["lineage", f"{name}/1"],
        ["across"], ["across", f"{name}/1"], ["geometry"], ["neighbors", f"{name}/1", "-k", "50"],
        ["words", f"{name}/1"], ["own", name], ["inventory"], ["taught", f"{name}/1", "--reveal"],
        ["review", "list", "--status", "open", "--status", "dismissed"], ["review", "log"],
        ["report", "-o", str(folder / "report.html")],
    ]  # fmt: skip


def test_commands_say_nothing_of_hidden_models(strangers: Strangers, variables: dict[str, str], tmp_path: Path) -> None:
    own, other = next(iter(strangers.ids)), next(reversed(strangers.ids))
    hidden = set(strangers.hidden_from(own))
    run = partial(CliRunner().invoke, app, env={**variables, **listed(tmp_path, own), "COLUMNS": "300"})
    for command in commands(own, tmp_path):
        for form in ([], ["--json"]):
            done = run([*command, *form])
            assert done.exit_code == 0, (command, done.exception)
            assert done.output.strip(), command
            assert not said_of(done.output, hidden), command
    report = (tmp_path / "report.html").read_text()
    assert own in report
    assert not said_of(report, hidden)
    for name in ("status", "words", "explain", "neighbors", "retry", "taught"):
        assert "is not known" in str(run([name, f"{other}/1"]).exception)
    assert "is not known" in str(run(["own", other]).exception)
    for name in ("replay", "merge"):
        assert "is not known" in str(run([name, f"{own}/1", f"{other}/1"]).exception)


def test_without_a_list_of_people_a_command_shows_every_model(strangers: Strangers, variables: dict[str, str]) -> None:
    rows = json.loads(CliRunner().invoke(app, ["status", "--json"], env=variables).output)
    assert {row["name"] for row in rows} == strangers.ids.keys()
