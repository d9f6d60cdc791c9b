"""Finetunes of two bases with tokenizers of their own, really trained on three domains, compared across the bases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deltadex.across import queries as meanings
from deltadex.across import reads
from deltadex.across.texts import MEANING_TEXTS
from deltadex.app import App
from deltadex.checkpoints.inspect import inspect
from deltadex.demo import corpus, training
from deltadex.demo.specification import Schedule, Shape
from deltadex.downloads.cache import open_cache
from deltadex.downloads.files import LocalFiles
from deltadex.embeddings import queries as embeddings
from deltadex.engine import shared
from deltadex.engine.requests import Finetune
from deltadex.ingest import across, discovery
from deltadex.ingest.resolve import Bases
from deltadex.types import BASE_TAG, Embedding
from deltadex.versions import queries as versions
from tests.registering import register_folder
from tests.stored import ADMIN

DOMAINS = ("sql", "legal", "python")
SHAPES = {
    "acme/wide": Shape(vocabulary=1024, hidden_size=96, layers=2, heads=4, intermediate_size=192),
    "acme/narrow": Shape(vocabulary=600, hidden_size=64, layers=3, heads=4, intermediate_size=128),
}


@dataclass(frozen=True)
class Trained:
    """Folders of the bases by name, and of their finetunes by base and domain."""

    bases: dict[str, Path]
    finetunes: dict[tuple[str, str], Path]


def documents(domain: str, part: int) -> list[str]:
    return [document.text for document in corpus.read_domain(domain)[part]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    general = [text for domain in DOMAINS for text in documents(domain, 0)]
    made = Trained({}, {})
    with training.quiet():
        for number, (name, shape) in enumerate(SHAPES.items(), start=1):
            base = made.bases[name] = folder / name
            tokenizer, model = (
                training.train_tokenizer(general, shape.vocabulary),
                training.new_base(shape, seed=number),
            )
            data = training.examples(tokenizer, general, 32)
            training.train(model, data, Schedule(150, 16, 32, 3e-3), seed=number)
            model.save_pretrained(base)
            tokenizer.save_pretrained(base)
            for domain in DOMAINS:
                adapter = training.new_adapter(training.load_base(base), seed=number, declared_base=name)
                # Other parts of the domain on each base: what is found again is the domain, not the text.
                data = training.examples(tokenizer, documents(domain, number), 32)
                training.train(adapter, data, Schedule(40, 8, 32, 3e-3), seed=number)
                made.finetunes[name, domain] = folder / name / domain
                training.save(adapter, made.finetunes[name, domain])
    return made


@pytest.fixture
def company(app: App, trained: Trained, data_dir: Path) -> App:
    """A registry whose versions were embedded, each with a base in its tag."""
    ours = {"bases": {name: str(folder) for name, folder in trained.bases.items()}, "data_dir": data_dir}
    app = replace(app, settings=app.settings.model_copy(update=ours))
    for (base, domain), folder in trained.finetunes.items():
        register_folder(app.registry, f"{base.partition('/')[2]}-{domain}", folder, **{BASE_TAG: base})
    discovery.poll(app)
    with shared.embedding_process(app.settings) as process, open_cache(app.settings).holding() as hold:
        known = Bases(app, hold)
        for (base, domain), folder in trained.finetunes.items():
            checkpoint = inspect(LocalFiles(folder)).fetch()
            seconds = {"deadline_seconds": 60.0}
            digest = process.digest(checkpoint, memo=app.settings.cache_dir / "digests", **seconds)
            [(_, made)] = process.embed(known.fetch(base, process), [Finetune(checkpoint, digest)], **seconds)
            assert isinstance(made, Embedding)
            with app.database.transaction() as tx:
                row = row_of(app, f"{base.partition('/')[2]}-{domain}")
                embeddings.save(tx, row, made, base_name=base, artifact_uri="u", is_weak=False)
    return app


def row_of(app: App, name: str) -> int:
    with app.database.transaction() as tx:
        [row] = versions.find(tx, app.registry.name, name)
    return row.id


def test_counterparts_are_of_the_base_with_another_tokenizer_and_the_most_similar_come_first(company: App) -> None:
    seen: list[tuple[int, int]] = []
    done = across.update(company, on_version=lambda at, total, _: seen.append((at, total)))
    assert (done.computed, done.missed) == (6, ())
    assert seen == [(number, 6) for number in range(6)]
    with company.database.transaction() as tx:
        covered = reads.coverage(tx, ADMIN, company.registry.name)
        assert [(one.base_name, one.versions, one.known) for one in covered] == [
            ("acme/narrow", 3, 3),
            ("acme/wide", 3, 3),
        ]
    # Models of this size are too noisy for more: `benchmarks.real.across` measures how often a domain is found again.
    for one, other in (("wide", "narrow"), ("narrow", "wide")):
        for domain in DOMAINS:
            with company.database.transaction() as tx:
                found = reads.counterparts(tx, ADMIN, company.registry.name, row_of(company, f"{one}-{domain}"))
            assert {each.version.registered.ref.name for each in found.nearest} == {
                f"{other}-{each}" for each in DOMAINS
            }
            assert {each.base_name for each in found.nearest} == {f"acme/{other}"}
            similarities = [each.similarity for each in found.nearest]
            assert similarities == sorted(similarities, reverse=True)
    assert across.update(company).computed == 0, "everything is known"


def test_shifts_are_those_of_transformers_and_peft(company: App, trained: Trained) -> None:
    across.update(company)
    with company.database.transaction() as tx:
        table = meanings.table(tx, company.registry.name, texts_digest=MEANING_TEXTS.digest)
    place = [row.registered.ref.name for row in table.rows].index("wide-sql")
    base = trained.bases["acme/wide"]
    tokenizer = training.load_tokenizer(base)
    models = training.load_base(base).eval(), training.load_adapter(base, trained.finetunes["acme/wide", "sql"]).eval()
    start = tokenizer(MEANING_TEXTS.start)["input_ids"]
    for number in (0, 40, 119):
        text = MEANING_TEXTS.texts[number].text
        read = tokenizer(text, add_special_tokens=False)["input_ids"]
        gained = []
        for model in models:
            with torch.inference_mode():
                said = model(input_ids=torch.tensor([start + read])).logits[0].log_softmax(-1)
            gained.append(sum(float(said[len(start) + at - 1, token]) for at, token in enumerate(read)))
        expected = (gained[1] - gained[0]) / len(text.encode())
        assert table.texts[place, number] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    known = np.isfinite(table.tokens[place])
    are_one = [len(tokenizer(token, add_special_tokens=False)["input_ids"]) == 1 for token in MEANING_TEXTS.tokens]
    assert known.tolist() == are_one
    assert 0 < known.sum() < len(known)


def test_an_update_goes_on_where_it_was_and_a_version_that_fails_stops_no_other(company: App, trained: Trained) -> None:
    assert across.update(company, limit=2).computed == 2
    gone = row_of(company, "wide-legal")
    with company.database.transaction() as tx:
        tx.execute("update model_versions set weights_digest = 'other' where id = %s", [gone])
    done = across.update(company)
    assert (done.computed, [one.version.registered.ref.name for one in done.missed]) == (3, ["wide-legal"])
    assert "not those that were embedded" in done.missed[0].error.message
    with company.database.transaction() as tx:
        assert [each for each, _ in meanings.due(tx, company.registry.name, texts_digest=MEANING_TEXTS.digest)] == [
            gone
        ]
        assert np.isfinite(meanings.table(tx, company.registry.name, texts_digest=MEANING_TEXTS.digest).texts).all()
