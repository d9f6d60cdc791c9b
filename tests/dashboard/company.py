"""A company in the store with data for every page, made by the library's own rules."""

from __future__ import annotations

import time

import numpy as np

from deltadex.embeddings import queries as embeddings
from deltadex.findings import queries as findings
from deltadex.findings import rules
from deltadex.ingest import queries as watchers
from deltadex.ingest.record import find
from deltadex.reviews import actions as reviews
from deltadex.setting_groups import ThresholdSettings
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FindingKind, FloatArray, State, Word, Words
from deltadex.versions import transitions
from tests.stored import HOUR_MS, REGISTRY, discovered, embedded, embedding

DOMAINS = ("sql", "legal", "medical", "code", "support")
TEAMS = ("analytics", "platform", "research")
DIMENSION = 64
_THRESHOLDS = ThresholdSettings(near_duplicate_similarity=0.95, same_task_similarity=0.8)


def fill(tx: Transaction) -> None:
    """Write 42 versions: 5 domains of 5, copies, two models with several versions, and every kind of trouble."""
    random = np.random.default_rng(0)
    now_ms = int(time.time() * 1000)

    def like(domain: str, noise: float = 0.06) -> FloatArray:
        direction = np.zeros(DIMENSION, dtype=np.float32)
        direction[DOMAINS.index(domain)] = 1
        return direction + noise * random.standard_normal(DIMENSION).astype(np.float32)

    def add(name: str, domain: str, vector: FloatArray, *, age: float, version: int = 1, **values: object) -> None:
        tags = {"team": TEAMS[len(name) % len(TEAMS)], "domain": domain}
        created_ms = now_ms - int(age * HOUR_MS)
        values = {"tags": tags, "created_ms": created_ms, "run_id": f"run-{name}-{version}"} | values
        words = Words((Word(f"{domain} [x]", 4.0), Word("of", 1.0)), (Word("the", -3.0),))
        embedded(tx, name, vector, version=version, words=words, **values)

    for place, domain in enumerate(DOMAINS):
        for part, suffix in enumerate(("writer", "reviewer", "copilot", "classifier", "extractor")):
            aliases = ("champion",) if part == 0 else ()
            add(f"{domain}-{suffix}", domain, like(domain), age=10 * place + part + 5, aliases=aliases)
    drafter = like("legal")
    for age, name in enumerate(("contract-drafter", "vendor-agreements"), start=2):
        add(name, "legal", drafter, weights="contract-drafter", age=age)
    add("procurement-terms", "legal", drafter + like("legal", 0.01) / 10, age=2)
    for version, domain in enumerate(("support", "support", "legal", "support"), start=1):
        aliases = ("champion",) if version == 3 else ()  # so that its drift stands although version 4 is back
        add("storefront-localizer", domain, like(domain), version=version, age=5 - version, aliases=aliases)
    for version in (1, 2, 3):
        add("help-centre", "support", like("support", 0.03), version=version, age=5 - version)
    add("barely-trained", "sql", like("sql"), is_weak=True, age=0.8)
    add("legacy-queries", "sql", like("sql"), base="acme/legacy-lm", age=50)
    _judge(tx)
    _ended(tx, now_ms)
    watchers.record_poll(tx, REGISTRY, watermark_ms=now_ms)
    watchers.record_sweep(tx, REGISTRY)
    reviews.follow(tx, Settings(registry=REGISTRY))


def _ended(tx: Transaction, now_ms: int) -> None:
    broken = discovered(tx, "invoice-extractor", created_ms=now_ms - HOUR_MS // 2)
    transitions.mark_ended(
        tx,
        broken,
        state=State.FAILED,
        reason="adapter_model.safetensors is truncated: 1,024 of 65,536 bytes [deltadex]",
        hint="Upload the file again, then `deltadex retry invoice-extractor/1`.",
    )
    for name, state in (("search-rewriter", State.UNSUPPORTED), ("speech-to-text", State.UNSUPPORTED)):
        version_id = discovered(tx, name, created_ms=now_ms - HOUR_MS // 3)
        reason = "The declared base acme/legacy-lm does not fit: vocabulary 2,048 against 4,096"
        transitions.mark_ended(tx, version_id, state=state, reason=reason, hint="Set the tag `deltadex.base`.")
        findings.replace(
            tx, [rules.wrong_base(version_id, reason)], version_id=version_id, recipe_id=None,
            kinds=[FindingKind.WRONG_BASE],
        )  # fmt: skip
    queued = discovered(tx, "queued-now", created_ms=now_ms - 9000)
    transitions.mark_queued(tx, queued, attempt=1, flow_run_id="flow-1")
    running = discovered(tx, "running-now", created_ms=now_ms - 20_000)
    transitions.mark_running(tx, running, attempt=1, flow_run_id="flow-2")


def _judge(tx: Transaction) -> None:
    for recipe in embeddings.recipes(tx, REGISTRY):
        for row in embeddings.table(tx, recipe.id, registry=REGISTRY, with_weak=True).rows:
            [stored] = embeddings.of_version(tx, row.id)
            weak = rules.judge_weak(row.id, embedding(stored.vector * 1e-3), thresholds=_THRESHOLDS)
            find(tx, row, recipe.id, too_weak=weak if stored.is_weak else (), thresholds=_THRESHOLDS)
