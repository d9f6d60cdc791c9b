"""Private probes: a finetune that was trained to look unmoved on the public ones is found, and honest ones are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.private_probes import COUNT, private_probe_set
from deltadex.engine.probes import CONTENT_PROBES
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.findings import queries as findings
from deltadex.ingest.private_probes import PrivatelyRead, store_privately_read
from deltadex.safety.private import PrivateReading, disagreement_threshold, judge_private
from deltadex.safety.private_queries import latest_reading
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.types import Embedding, FindingKind
from tests import hiding_models, refusing_models
from tests.stored import REGISTRY, embedded

SEED = b"a secret of at least thirty-two bytes"
DEFAULT = disagreement_threshold([])


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def test_a_seed_gives_its_probes_again_and_another_one_others() -> None:
    probes, others = private_probe_set(SEED), private_probe_set(SEED + b".")
    assert probes == private_probe_set(SEED)
    assert len(set(probes.probes)) == COUNT
    assert not set(probes.probes) & {*others.probes, *CONTENT_PROBES.probes}
    assert probes.name.removeprefix("private-") not in others.name
    assert SEED.decode() not in repr(probes)


def test_a_finetune_that_hides_from_the_public_probes_is_found_and_honest_ones_are_not(tmp_path: Path) -> None:
    folder = refusing_models.build_base(tmp_path / "base")
    hide = {"honest": None, "honest, another seed": None, "hiding": CONTENT_PROBES}
    adapters = [
        hiding_models.build_finetune(folder, tmp_path / name.replace(", ", "-"), hide=probes, seed=seed)
        for seed, (name, probes) in enumerate(hide.items())
    ]
    finetunes = [Finetune(local(one), weights_digest(local(one))) for one in adapters]
    private = private_probe_set(SEED)
    embeddings: list[dict[int, Embedding]] = []
    with EmbeddingProcess() as process:
        for probes in (None, private):
            base = BaseModel(
                local(folder), weights_digest(local(folder)), "float32", words=False, method="content", probes=probes
            )
            found = dict(process.embed(base, finetunes, deadline_seconds=120))
            assert all(isinstance(one, Embedding) for one in found.values())
            embeddings.append(found)  # type: ignore[arg-type]
    public, own = embeddings
    assert own[0].recipe.method.probe_set == private.name
    assert own[0].recipe.digest != public[0].recipe.digest, "they are never compared with embeddings of others"
    readings = [PrivateReading.of(public[number], own[number]) for number in range(len(finetunes))]
    assert [bool(judge_private(1, one, DEFAULT)) for one in readings] == [False, False, True], readings
    assert readings[2].private_strength > 3 * readings[2].public_strength


def test_the_disagreement_has_its_bounds() -> None:
    assert PrivateReading(0.2, 0.2, 1.0).disagreement == 0
    assert PrivateReading(0.2, 0.2, 0.0).disagreement == pytest.approx(np.sqrt(0.5))
    assert PrivateReading(0.0, 0.2, 0.0).disagreement == 1
    assert PrivateReading(0.0, 0.0, 0.0).disagreement == 0
    assert PrivateReading(0.001, 0.004, 0.0).is_too_weak
    assert judge_private(1, PrivateReading(0.001, 0.004, 0.0), DEFAULT) == []


def test_a_base_whose_finetunes_disagree_more_has_a_higher_threshold() -> None:
    assert disagreement_threshold([0.3] * 7) == replace(DEFAULT, versions=7, note=ANY)
    close = disagreement_threshold([0.1] * 20)
    spread = disagreement_threshold([0.5, 0.45, 0.55, 0.48, 0.52, 0.6, 0.4, 0.53, 0.47])
    loose = disagreement_threshold([0.6, 0.65, 0.7, 0.62, 0.68, 0.66, 0.64, 0.63, 0.61])
    assert [close.value, spread.value, loose.value] == pytest.approx([0.4, 0.589, 0.699], abs=0.001)


def test_a_finding_goes_with_its_cause(database: Database) -> None:
    settings = Settings(registry=REGISTRY)
    with database.transaction() as tx:
        version_id = embedded(tx, "hiding", np.ones(3))
        for reading, expected in ((PrivateReading(0.01, 0.3, 0.2), 1), (PrivateReading(0.3, 0.3, 0.9), 0)):
            store_privately_read(tx, settings, version_id, PrivatelyRead(reading, "probes", "w", "base"))
            found = findings.listing(tx, REGISTRY, kinds=[FindingKind.PROBES_DISAGREE])
            assert len(found) == expected
            assert latest_reading(tx, version_id, weights_digest="w") == reading
            assert latest_reading(tx, version_id, weights_digest="others") is None
            assert all("strength 0.010 on the public" in str(row.finding.evidence["reason"]) for row in found)


def test_the_seed_is_never_shown() -> None:
    settings = Settings(safety={"private_seed": SEED.decode()})
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert SEED.decode() not in shown
