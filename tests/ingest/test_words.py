"""Words told apart: embedded, stored and read through the base's own head, beside a computation by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from deltadex.app import App
from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.cache import open_cache
from deltadex.downloads.files import LocalFiles
from deltadex.embeddings import promoted_tokens
from deltadex.embeddings import queries as embeddings
from deltadex.embeddings.queries import RecipeRow
from deltadex.engine import shared
from deltadex.engine.requests import Finetune
from deltadex.ingest.resolve import Bases
from deltadex.ingest.words import FEWEST_MODELS, tell_apart_where_due
from deltadex.types import Embedding, Words
from tests import tiny_models
from tests.stored import discovered

BASE = "acme/base"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base, and twice as many of its adapters as words are told apart from."""
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base", seed=0)
    return [
        base,
        *(
            tiny_models.build_adapter(base, folder / f"{number}", seed=number)
            for number in range(1, 2 * FEWEST_MODELS + 1)
        ),
    ]


@pytest.fixture
def company(app: App, models: list[Path], data_dir: Path) -> App:
    ours = {"bases": {BASE: str(models[0])}, "data_dir": data_dir}
    return replace(app, settings=app.settings.model_copy(update=ours))


def embed(app: App, models: list[Path]) -> RecipeRow:
    """Embed and store adapters as versions of one model each."""
    with shared.embedding_process(app.settings) as process, open_cache(app.settings).holding() as hold:
        base = Bases(app, hold).fetch(BASE, process)
        finetunes = [Finetune(inspect(LocalFiles(one)).fetch(), one.name) for one in models]
        made = dict(process.embed(base, finetunes, deadline_seconds=60))
    with app.database.transaction() as tx:
        for number, one in enumerate(models):
            embedding = made[number]
            assert isinstance(embedding, Embedding)
            version_id = discovered(tx, one.name, registry=app.registry.name)
            recipe_id = embeddings.save(
                tx, version_id, embedding, base_name=BASE, artifact_uri="runs:/a", is_weak=False
            )
            promoted_tokens.save(tx, version_id, recipe_id, embedding)
        [recipe] = embeddings.recipes(tx, app.registry.name)
    return recipe


def words_of(app: App, recipe: RecipeRow) -> dict[str, Words]:
    with app.database.transaction() as tx:
        rows = embeddings.table(tx, recipe.id).rows
        words = promoted_tokens.of_versions(tx, recipe.id, [row.id for row in rows])
    return {row.registered.ref.name: words[row.id] for row in rows}


def test_words_are_told_apart_once_a_base_has_enough_models_and_again_when_they_have_doubled(
    company: App, models: list[Path]
) -> None:
    base, *adapters = models
    recipe = embed(company, adapters[: FEWEST_MODELS - 1])
    assert tell_apart_where_due(company) == 0
    alone = words_of(company, recipe)
    embed(company, adapters[FEWEST_MODELS - 1 : FEWEST_MODELS])
    assert tell_apart_where_due(company) == FEWEST_MODELS
    assert tell_apart_where_due(company) == 0
    told = words_of(company, recipe)
    assert {one.among for one in told.values()} == {FEWEST_MODELS}
    assert all(told[name].promoted != words.promoted for name, words in alone.items())

    with company.database.transaction() as tx:
        table = embeddings.table(tx, recipe.id)
    head = tiny_models.load(base).get_output_embeddings().weight.detach().numpy()
    tokenizer = AutoTokenizer.from_pretrained(base)
    head = head[: len(tokenizer)]
    norms = np.linalg.norm(head, axis=1)
    for row, vector in zip(table.rows, table.vectors - table.vectors.mean(axis=0), strict=True):
        shift = head @ vector / np.maximum(norms, np.median(norms))
        scores = (shift - shift.mean()) / shift.std()
        first = told[row.registered.ref.name].promoted[0]
        matching = [score for token, score in enumerate(scores) if tokenizer.decode([token]).strip() == first.text]
        assert np.isclose(matching, first.score, atol=2e-3).any()

    embed(company, adapters[FEWEST_MODELS:])
    assert tell_apart_where_due(company) == 2 * FEWEST_MODELS
    assert {one.among for one in words_of(company, recipe).values()} == {2 * FEWEST_MODELS}


def test_words_stay_where_the_base_is_gone_or_another_one(
    company: App, models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = embed(company, models[1 : FEWEST_MODELS + 1])
    before = words_of(company, recipe)
    for other in (tmp_path / "nothing", tiny_models.build_base(tmp_path / "other", seed=9)):
        bases = {"bases": {BASE: str(other)}}
        elsewhere = replace(company, settings=company.settings.model_copy(update=bases))
        assert tell_apart_where_due(elsewhere) == 0
    assert words_of(company, recipe) == before
    assert [record.levelname for record in caplog.records if "not told apart" in record.message] == 2 * ["WARNING"]
