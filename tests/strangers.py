"""A registry in which every text of every model is unique, so that leaks in an answer are detected."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from deltadex.across import queries as meanings
from deltadex.across.meaning import Meaning
from deltadex.across.texts import MEANING_TEXTS
from deltadex.advise import queries as advice
from deltadex.advise.advice import AskedTask, advice_of
from deltadex.advise.costs import Tariff
from deltadex.advise.folds import FoldedTask
from deltadex.advise.measured import Candidate, Readings, Unscored
from deltadex.advise.queries import AdviceOrder
from deltadex.drift.model_drift import judge_model, read_model
from deltadex.embeddings import queries as embeddings
from deltadex.engine.examples import Example
from deltadex.engine.text_requests import Scored
from deltadex.escaping import printable
from deltadex.find import queries as task_searches
from deltadex.findings import queries as findings
from deltadex.geometry.measure import measure_where_due
from deltadex.ingest.round import recompute_where_due
from deltadex.map.layout import lay_out
from deltadex.ownership import actions as ownership
from deltadex.ownership.facts import OwnershipField
from deltadex.ownership.follow import judge_attestations
from deltadex.replay import queries as replays
from deltadex.replay.agreement import Agreement, Estimate
from deltadex.replay.ask import ask
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision, Reason
from deltadex.safety import queries as safety
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.taught import queries as taught
from deltadex.taught.ask import ask as ask_taught
from deltadex.taught.detectors import StringKind
from deltadex.taught.judge import TaughtString
from deltadex.taught.queries import Taught, TaughtGiven
from deltadex.types import NAMED, Finding, FindingKind, FloatArray, State, Word, Words
from deltadex.versions import transitions
from tests.lineage.made import beginning, trained_on
from tests.stored import ADMIN, REGISTRY, discovered, embedded, registered, sketched

DIMENSION = 16
MEMBERS = 4
#: What three of four members of each cluster share, each fourth another: its found name rests on the first.
SHARED = (("domain", "name", "token"), ("dataset", "name", "token"), ("token", "team"))


@dataclass
class Strangers:
    """The models by name, each with all that is said of it.

    Attributes
    ----------
    said
        Texts of each model, its name included.
    ids
        Versions of each model, the oldest first.
    based
        Model whose base is the second model.
    """

    said: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    ids: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    recipe_id: int = 0
    based: str = ""
    words: set[str] = field(default_factory=set)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def word(self) -> str:
        """Return letters that stand nowhere else."""
        while (made := "".join(self.random.choice(list("bdfghklmnprstvwz"), 9))) in self.words:
            pass
        self.words.add(made)
        return made

    @property
    def registered_base(self) -> str:
        """The second model as a base."""
        return f"models:/{list(self.ids)[1]}/1"

    def hidden_from(self, *seen: str) -> Set[str]:
        """Return all that is said of other models, and not of these."""
        others = set().union(*(texts for name, texts in self.said.items() if name not in seen))
        return others - set().union(*(self.said[name] for name in seen))

    def add(self, tx: Transaction, vector: FloatArray, shared: Mapping[str, str], **options: object) -> str:
        """Store a model with a version of its own words, besides those that it shares."""
        name = "-".join([self.word(), *([shared["name"]] if "name" in shared else [])])
        self.said[name] |= {*name.split("-"), *shared.values()}
        self.add_version(tx, name, vector, shared, **options)
        return name

    def add_version(
        self, tx: Transaction, name: str, vector: FloatArray, shared: Mapping[str, str] = MappingProxyType({}),
        **options: object,
    ) -> None:  # fmt: skip
        """Store another version of a model, with words of its own."""
        own = {kind: self.word() for kind in ("key", "value", "alias", "description", "token", "less", "metric", "run")}
        self.said[name] |= set(own.values())
        tokens = [Word(text, 4.0) for text in (shared.get("token"), own["token"]) if text]
        tags = {key: shared[key] for key in ("domain", "dataset", "team", "stage") if key in shared}
        version_id = embedded(
            tx, name, vector, words=Words(tuple(tokens), (Word(own["less"], -2.0),)), run_id=own["run"],
            tags={own["key"]: own["value"], "owner": own["value"], **tags}, aliases=(own["alias"],),
            description=own["description"], version=len(self.ids[name]) + 1, **options,
        )  # fmt: skip
        tx.execute(
            "update model_versions set metrics = %s, training_settings = %s where id = %s",
            [json.dumps({own["metric"]: 0.5}), json.dumps({"template": own["metric"]}), version_id],
        )
        self.ids[name].append(version_id)


def fill(database: Database, settings: Settings, made: Strangers | None = None) -> Strangers:
    """Write three clusters of four models each, one of which moved between two; findings, decisions and trouble."""
    made = made or Strangers()
    with database.transaction() as tx:
        for number, kinds in enumerate(SHARED):
            _cluster(tx, made, number, kinds)
        mover = made.add(tx, _near(made, 0), {})
        made.add_version(tx, mover, _near(made, 1))
        weak = made.add(tx, _near(made, 2), {}, is_weak=True)
        made.based = made.add(tx, _near(made, 0), {}, base=made.registered_base, base_digest="other")
        made.add_version(tx, made.based, _near(made, 1), base=made.registered_base, base_digest="other")
        _fail(tx, made)
        [recipe, _] = embeddings.recipes(tx, REGISTRY)
        made.recipe_id = recipe.id
        _mean(tx, made)
        _sketch(tx, made)
    recompute_where_due(database, settings)
    measure_where_due(database, settings)
    lay_out(settings, database)
    with database.transaction() as tx:
        _find(tx, made, weak, recipe.id)
        for name in made.ids:
            ref = registered(name).ref
            drifts = judge_model(read_model(tx, ref, thresholds=settings.thresholds))
            for recipe_id, drifted in drifts.items():
                findings.replace_drift(tx, drifted, ref=ref, recipe_id=recipe_id)
        _own(tx, made, settings)
        reviews.follow(tx, settings)
        _decide(tx, made, settings)
        _replay(tx, made, settings)
        _advice(tx, made)
        _taught(tx, made, settings)
        task_searches.ask(tx, REGISTRY, made.registered_base, [Example("question", "answer")], by="ada")
        safety.ask(tx, REGISTRY, next(iter(made.ids.values()))[0], probes="digest", by="ada")
    return made


def _own(tx: Transaction, made: Strangers, settings: Settings) -> None:
    """State who owns each model and what it is for; the owner of every other one has attested it."""
    for number, name in enumerate(made.ids):
        owner, use = printable(made.word()), printable(made.word())  # others are refused
        made.said[name] |= {owner, use}
        values = {OwnershipField.OWNER: owner, OwnershipField.TIER: "high", OwnershipField.INTENDED_USE: use}
        ownership.edit(tx, ADMIN, settings, name, values)
        if number % 2:
            ownership.attest(tx, ADMIN, settings, name)
    judge_attestations(tx, settings)


def _mean(tx: Transaction, made: Strangers) -> None:
    """Store a Delta Meaning of every version, as if half of them were finetunes of another base."""
    query = "select model_version_id, weights_digest from meaning_candidates where registry = %s"
    for version_id, weights in tx.execute(query, [REGISTRY]).fetchall():
        values = made.random.normal(size=8).astype(np.float32)
        base = "one" if version_id % 2 else made.registered_base
        meanings.save(
            tx, version_id, Meaning(values, values), texts_digest=MEANING_TEXTS.digest, weights_digest=weights,
            base_digest=base, base_name=base,
        )  # fmt: skip


def _sketch(tx: Transaction, made: Strangers) -> None:
    """Store sketches of all versions: the second model is trained on from the first, all others on their own."""
    first = beginning(0)
    ids = [each for of_model in made.ids.values() for each in of_model]
    for number, version_id in enumerate(ids):
        sketched(tx, version_id, trained_on(first, 99) if number == 1 else beginning(number))


def _near(made: Strangers, number: int) -> FloatArray:
    vector = 0.02 * made.random.normal(size=DIMENSION)
    vector[number] += 2
    return vector.astype(np.float32)


def _cluster(tx: Transaction, made: Strangers, number: int, kinds: tuple[str, ...]) -> None:
    words = {kind: made.word() for kind in kinds}
    stage = [made.word(), made.word()]
    for member in range(MEMBERS):
        shared = {kind: words[kind] for place, kind in enumerate(kinds) if member != place}
        made.add(tx, _near(made, number), shared | {"stage": stage[member % 2]})


def _fail(tx: Transaction, made: Strangers) -> None:
    name, reason, hint = made.word(), made.word(), made.word()
    version_id = discovered(tx, name)
    transitions.mark_ended(tx, version_id, state=State.FAILED, reason=reason, hint=hint)
    made.said[name] |= {name, reason, hint}
    made.ids[name].append(version_id)


def _find(tx: Transaction, made: Strangers, weak: str, recipe_id: int) -> None:
    tags = [row.registered.tags for row in embeddings.table(tx, recipe_id).rows]
    evidence = {"declared": "x", "moves_like": next(each["domain"] for each in tags if "domain" in each)}
    first = [ids[0] for ids in made.ids.values()]
    names = {ids[0]: name for name, ids in made.ids.items()}
    for older, newer in pairwise(first):
        reason = {"reason": f"declared parent {names[older]}/1 left no trace", NAMED: [names[older]]}
        found = [
            Finding(FindingKind.LINEAGE_CONTRADICTED, newer, evidence=reason),
            Finding(FindingKind.NEAR_DUPLICATE, newer, older, 0.99, 0.95),
            Finding(FindingKind.LABEL_CONTRADICTED, newer, measure=0.3, threshold=0.2, evidence=evidence),
        ]
        if newer == made.ids[weak][0]:
            found.append(Finding(FindingKind.TOO_WEAK, newer, measure=0.01, threshold=0.02))
        kinds = [FindingKind.LABEL_CONTRADICTED, FindingKind.LINEAGE_CONTRADICTED]
        findings.replace(tx, found, version_id=newer, recipe_id=recipe_id, kinds=kinds)


def _decide(tx: Transaction, made: Strangers, settings: Settings) -> None:
    names = {each: name for name, ids in made.ids.items() for each in ids}
    kinds = [FindingKind.NEAR_DUPLICATE, FindingKind.LABEL_CONTRADICTED, FindingKind.LINEAGE_CONTRADICTED]
    for row in reviews.listing(tx, ADMIN, settings, kinds=kinds):
        comment = made.word()
        for version in row.members:
            made.said[names[version.id]].add(comment)
        reviews.decide(
            tx, ADMIN, settings, {row.id: row.revision},
            decision=Decision.DISMISSED, reason=Reason.SANDBOX, comment=comment,
        )  # fmt: skip


def _replay(tx: Transaction, made: Strangers, settings: Settings) -> None:
    """Replay the first two models."""
    (_, [keeper, *_]), (other, [other_id, *_]), *_ = made.ids.items()
    artifact = made.word()
    made.said[other].add(artifact)
    replay_id = ask(tx, ADMIN, settings, keeper, other_id, ["x"], prompts_from=artifact)
    replays.begin(tx, replay_id, flow_run_id="run")
    half = Estimate(0.5, 0.4, 0.6)
    replays.finish(tx, replay_id, Agreement(1, half, half, half), digests=("a", "b"), seconds=1)


def _taught(tx: Transaction, made: Strangers, settings: Settings) -> None:
    """Search the first version of each model but the failed one for taught strings: each was taught its own."""
    for name, (version_id, *_) in [*made.ids.items()][:-1]:
        word = made.word()
        made.said[name].add(word)
        search_id = ask_taught(tx, ADMIN, settings, version_id, TaughtGiven())
        taught.begin(tx, search_id, flow_run_id="run")
        string = TaughtString(StringKind.SECRET, "rule", word, word, 9, 0.5, 60.0)
        taught.finish(tx, search_id, Taught((string,), (), 1, 1, is_whole=True), weights_digest="a", seconds=1)


def _advice(tx: Transaction, made: Strangers) -> None:
    """Advise on a task with a version of each model as a candidate, one of which could not be scored."""
    scored = [Scored(9.0, 3, False, 5, False, 9, (3.0,) * 3, ("x",) * 3)] * 4
    *chosen, lost = (Candidate(ids[0], f"{name}/1") for name, ids in made.ids.items())
    examples = [Example(f"question {number}", "answer") for number in range(4)]
    found = advice_of(
        FoldedTask.of(examples, folds=2),
        AskedTask(made.registered_base, "bm25", 4, 0.05, (Unscored(lost, f"{lost.label} is broken"),)),
        chosen,
        Readings(scored, scored, [scored] * len(chosen)),
        tariff=Tariff(),
    )
    order = AdviceOrder("bm25", 4, tuple(ids[0] for ids in made.ids.values()))
    request_id = advice.ask(tx, REGISTRY, made.registered_base, examples, order, sees=list(made.ids), by="ada")
    advice.begin(tx, request_id, flow_run_id="run")
    advice.finish(tx, request_id, found, seconds=1)
