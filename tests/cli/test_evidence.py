"""`deltadex evidence`: packs are made, verified and reproduced from the command line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deltadex.cli import app
from deltadex.embeddings import queries as embeddings
from deltadex.errors import DeltadexError, EvidenceError, SettingsError
from deltadex.local_embedding import embed
from deltadex.store.database import Database
from deltadex.types import Embedding
from deltadex.versions import queries as versions
from tests import tiny_models
from tests.stored import REGISTRY, discovered, embedded


class Made:
    """A registry with a really embedded adapter, and the command on it."""

    def __init__(self, folder: Path, variables: dict[str, str], embedding: Embedding) -> None:
        self.folder, self.variables, self.embedding = folder, variables, embedding

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["evidence", *arguments], env={**self.variables, "COLUMNS": "80"})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Embedding]:
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base")
    tiny_models.build_adapter(base, folder / "adapter")
    tiny_models.build_full_finetune(base, folder / "full")
    return folder, embed(folder / "adapter", base=folder / "base")


@pytest.fixture
def made(models: tuple[Path, Embedding], database: Database, tmp_path: Path) -> Made:
    folder, embedding = models
    with database.transaction() as tx:
        version_id = discovered(tx, "sql-writer", aliases=("champion",))
        embeddings.save(tx, version_id, embedding, base_name="base", artifact_uri="runs:/x/y", is_weak=False)
        embedded(tx, "legal", embedding.vector, aliases=("champion",))
        embedded(tx, "other", embedding.vector)
    variables = {
        "DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": REGISTRY, "DELTADEX_DATA_DIR": str(tmp_path / "d")
    }  # fmt: skip
    return Made(folder, variables, embedding)


def test_a_pack_is_made_verified_and_refused_when_it_was_changed(made: Made, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    assert isinstance(made("sql-writer/1", "--output", str(pack)).exception, SettingsError), "there is no key yet"
    assert not pack.exists()
    done = made("new-key")
    assert (done.exit_code, "Publish it" in done.output) == (0, True)
    key = str(tmp_path / "d" / "evidence.pub")
    done = made("sql-writer/1", "--output", str(pack))
    assert (done.exit_code, "signed by the key from file" in done.output) == (0, True)
    done = made("verify", str(pack), "--key", key)
    assert (done.exit_code, done.output.count("✓"), done.output.count("–")) == (0, 4, 1)
    first, *_, last = done.output.splitlines()
    assert first.startswith("A pack that says it is about sql-writer/1 of acme, made by ")
    assert last.startswith("Verified: ")
    assert max(map(len, done.output.splitlines())) <= 80
    done = made("verify", str(pack), "--unsigned")
    assert (done.exit_code, done.output.count("–")) == (0, 2)
    assert "Verified" not in done.output
    assert "nothing says who made them" in done.output
    [signature, *_] = json.loads(made("verify", str(pack), "--unsigned", "--json").output)
    assert signature["is_passed"] is None
    for nonsense in ("nonsense", "3", "3:5fe1", f"x:{'0' * 64}"):
        assert made("verify", str(pack), "--key", key, "--head", nonsense).exit_code == 2
    assert isinstance(made("verify", str(pack), "--key", str(pack / "pack.json")).exception, SettingsError)
    (pack / "training.json").write_text("{}")
    done = made("verify", str(pack), "--key", key)
    assert done.output.splitlines()[-1] == "Not verified: signature, digests"
    done = made("verify", str(pack), "--key", key, "--json")
    assert done.exit_code == 4
    assert "Digest(" not in done.output
    assert {one["check"] for one in json.loads(done.output) if one["is_passed"] is False} == {"signature", "digests"}
    assert made("verify", str(pack)).exit_code == 2, "no key is no verification, unless it is said"
    assert made("verify", str(tmp_path / "none"), "--unsigned").exit_code == 2
    assert isinstance(made("verify", str(tmp_path), "--unsigned").exception, EvidenceError)


def test_a_version_is_named_by_its_alias_and_all_with_one_are_packed(made: Made, tmp_path: Path) -> None:
    done = made("sql-writer@champion", "-o", str(tmp_path / "one.zip"), "--unsigned", "--json")
    [said] = json.loads(done.output)
    assert (said["label"], said["signed_with"]) == ("sql-writer/1", None)
    done = made("--alias", "champion", "-o", str(tmp_path / "all"), "--unsigned")
    assert done.exit_code == 0, done.exception
    names = {one.name for one in (tmp_path / "all").iterdir()}
    assert names == {"evidence-sql-writer-1.zip", "evidence-legal-1.zip"}
    with zipfile.ZipFile(tmp_path / "all" / "evidence-legal-1.zip") as archive:
        assert json.loads(archive.read("evidence-legal-1/pack.json"))["model"] == "legal"
    for wrong in (["sql-writer@none"], ["sql-writer/9"], ["none@champion"], ["--alias", "none"]):
        assert isinstance(made(*wrong, "-o", str(tmp_path / "no"), "--unsigned").exception, DeltadexError)
    for wrong in ([], ["sql-writer/1", "--alias", "champion"], ["sql-writer"]):
        assert made(*wrong, "-o", str(tmp_path / "no"), "--unsigned").exit_code == 2


def test_the_model_of_a_pack_is_embedded_again_and_compared(made: Made, database: Database, tmp_path: Path) -> None:
    pack, base = tmp_path / "pack", str(made.folder / "base")
    assert made("sql-writer/1", "-o", str(pack), "--unsigned").exit_code == 0
    done = made("reproduce", str(pack), "--model", str(made.folder / "adapter"), "--base", base, "--json")
    found = json.loads(done.output)
    assert (done.exit_code, found["is_reproduced"]) == (0, True)
    assert found["difference"] <= found["allowed"]
    done = made("reproduce", str(pack), "--model", str(made.folder / "full"), "--base", base)
    assert (done.exit_code, "other weights" in done.output) == (4, True)
    told = json.loads((pack / "embedding.json").read_text())
    told["embeddings"][0]["vector"][0] += 1.0
    (pack / "embedding.json").write_text(json.dumps(told))
    done = made("reproduce", str(pack), "--model", str(made.folder / "adapter"), "--base", base)
    assert (done.exit_code, "not reproduced" in done.output) == (4, True)
    told["embeddings"][0]["recipe"]["method"]["probe_digest"] = "other"
    (pack / "embedding.json").write_text(json.dumps(told))
    done = made("reproduce", str(pack), "--model", str(made.folder / "adapter"), "--base", base)
    assert isinstance(done.exception, EvidenceError)
    with database.transaction() as tx:
        assert versions.find(tx, REGISTRY, "sql-writer", 1)
