"""Steps of the safety flow where a registry has private probes: embed a version by both sets, compare and judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deltadex.app import App
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.private_probes import private_probe_set
from deltadex.engine.probes import METHODS
from deltadex.findings import queries as findings
from deltadex.ingest.embed import embed
from deltadex.ingest.resolve import Fetched
from deltadex.safety.private import PrivateReading, disagreement_threshold, judge_private
from deltadex.safety.private_queries import readings_of_base, save_reading
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FindingKind


@dataclass(frozen=True)
class PrivatelyRead:
    """A version's reading by private probes, before it is stored."""

    reading: PrivateReading
    probes_digest: str
    weights_digest: str
    base_digest: str


def read_privately(app: App, process: EmbeddingProcess, fetched: Fetched, weights_digest: str) -> PrivatelyRead | None:
    """Embed a version by the public and by the private probes; return None where the settings have no seed."""
    seed = app.settings.safety.private_seed
    if seed is None:
        return None
    private = private_probe_set(seed.get_secret_value().encode())
    base, deadline = replace(fetched.base, words=False), app.settings.embedding.deadline_seconds
    public, own = (
        embed(process, replace(fetched, base=replace(base, probes=probes)), deadline_seconds=deadline)
        for probes in (None, private)
    )
    both = f"{METHODS[base.method].digest}:{private.digest}"
    return PrivatelyRead(PrivateReading.of(public, own), both, weights_digest, base.digest)


def store_privately_read(tx: Transaction, settings: Settings, version_id: int, read: PrivatelyRead) -> None:
    """Store a reading, and judge all versions of its base again: each is noise to the others."""
    save_reading(
        tx,
        version_id,
        read.reading,
        probes_digest=read.probes_digest,
        weights_digest=read.weights_digest,
        base_digest=read.base_digest,
    )
    readings = readings_of_base(tx, settings.registry, read.base_digest, read.probes_digest)
    values = {each: one.disagreement for each, one in readings.items() if not one.is_too_weak}
    for each, one in readings.items():
        threshold = disagreement_threshold([value for other, value in values.items() if other != each])
        judged = judge_private(each, one, threshold)
        if each == version_id or judged or one.disagreement > threshold.value - 0.1:
            findings.replace(tx, judged, version_id=each, recipe_id=None, kinds=[FindingKind.PROBES_DISAGREE])
