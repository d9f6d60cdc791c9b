"""Computation of the Delta Meanings that are missing: each version is fetched again and reads the fixed texts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from deltadex.across import queries as meanings
from deltadex.across.meaning import Meaning
from deltadex.across.texts import MEANING_TEXTS
from deltadex.app import App
from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.downloads.cache import open_cache
from deltadex.engine import shared
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.requests import BaseModel
from deltadex.engine.text_requests import Scanned, TextScan
from deltadex.errors import DeltadexError
from deltadex.ingest.embed import stated
from deltadex.ingest.resolve import Bases, digest_as_embedded, fetch, resolve, workspace
from deltadex.types import VersionRow
from deltadex.versions.queries import by_ids

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Missed:
    """A version whose Delta Meaning could not be computed, and why."""

    version: VersionRow
    error: DeltadexError


@dataclass(frozen=True)
class Updated:
    """Result of an update.

    Attributes
    ----------
    computed
        Number of versions whose Delta Meaning was computed.
    """

    computed: int
    missed: tuple[Missed, ...]


#: Called before each version with the number of those that are done, the number of all, and its label.
OnVersion = Callable[[int, int, str], None]


def update(app: App, *, limit: int | None = None, on_version: OnVersion = lambda *_: None) -> Updated:
    """Compute the Delta Meaning of versions that have none, base by base, each stored at once.

    Killed at any point and run again, it goes on where it was. A version that fails is tried again by the next update.

    Parameters
    ----------
    limit
        Most versions to compute.
    """
    registry = app.registry.name
    due = app.database.run(lambda tx: meanings.due(tx, registry, texts_digest=MEANING_TEXTS.digest))[:limit]
    rows = app.database.run(lambda tx: by_ids(tx, [version_id for version_id, _ in due]))
    missed: list[Missed] = []
    with open_cache(app.settings).holding() as hold, shared.embedding_process(app.settings) as process:
        reader = _Reader(app, process, Bases(app, hold))
        for number, (version_id, _) in enumerate(due):
            row = rows[version_id]
            on_version(number, len(due), row.label)
            try:
                reader.compute(row)
            except Exception as error:  # noqa: BLE001 - one version must not stop the others
                missed.append(Missed(row, stated(error, row)))
                log.warning("meaning not computed version=%s error=%r", row.label, missed[-1].error.message)
    return Updated(len(due) - len(missed), tuple(missed))


class _Reader:
    """Computes versions with one process; keeps the scan of the last base."""

    def __init__(self, app: App, process: EmbeddingProcess, bases: Bases) -> None:
        self._app = app
        self._process = process
        self._bases = bases
        self._of_base: tuple[str, Scanned] | None = None

    def compute(self, row: VersionRow) -> None:
        """Compute and store the Delta Meaning of a version."""
        with workspace(self._app, row) as hold:
            resolved = resolve(self._app, self._process, row, hold, bases=self._bases)
            fetched = fetch(self._app, self._process, resolved, hold, bases=self._bases)
            digest = digest_as_embedded(row, fetched)
            own = self._scan(fetched.base, fetched.finetune.checkpoint)
        save = partial(
            meanings.save,
            version_id=row.id,
            meaning=Meaning.between(own, self._scan_of_base(fetched.base)),
            texts_digest=MEANING_TEXTS.digest,
            weights_digest=digest,
            base_digest=fetched.base.digest,
            base_name=resolved.base_name,
        )
        self._app.database.run(save)

    def _scan_of_base(self, base: BaseModel) -> Scanned:
        if self._of_base is None or self._of_base[0] != base.digest:
            self._of_base = base.digest, self._scan(base, None)
        return self._of_base[1]

    def _scan(self, base: BaseModel, checkpoint: LocalCheckpoint | None) -> Scanned:
        fixed = MEANING_TEXTS
        request = TextScan(base, checkpoint, fixed.start, tuple(one.text for one in fixed.texts), fixed.tokens)
        return self._process.scan(request, deadline_seconds=self._app.settings.embedding.deadline_seconds)
