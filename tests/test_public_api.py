"""The public API: its names, its import time, and the examples in docstrings and README."""

from __future__ import annotations

import doctest
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

import deltadex
from deltadex import cli
from deltadex.access import HIDDEN, system_user
from deltadex.errors import AccessDenied, BaseMismatch, DeltadexError, SettingsError
from deltadex.ingest.round import recompute_where_due
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from tests import tiny_models
from tests.dashboard.company import fill
from tests.importing import imported_by
from tests.stored import REGISTRY

ROOT = Path(__file__).parents[1]
NAMES = ["Connection", "Embedding", "Recipe", "Settings", "__version__", "connect", "embed"]
LARGE = {"torch", "transformers", "mlflow", "sklearn", "scipy", "psycopg", "numpy", "pydantic"}
_EXAMPLES = [
    example
    for value in (deltadex, *(getattr(deltadex, name) for name in NAMES if name != "__version__"))
    for example in doctest.DocTestFinder().find(value, globs={})
    if example.examples
]


@pytest.fixture(scope="module")
def database_url(postgres_url: str) -> str:
    """A database in which there is something of every kind."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create database public_api")
    url = make_conninfo(postgres_url, dbname="public_api")
    with Database(url) as database:
        migrate(database)
        with database.transaction() as tx:
            fill(tx)
        recompute_where_due(database, Settings(registry=REGISTRY))
    return url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the folders that the examples name."""
    folder = tmp_path_factory.mktemp("public-api")
    base = tiny_models.build_base(folder / "base")
    tiny_models.build_adapter(base, folder / "adapter")
    tiny_models.build_full_finetune(base, folder / "full")
    return folder


@pytest.fixture
def environment(database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Settings as a user of the API has them."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("DELTADEX_DATABASE__URL", database_url)
    monkeypatch.setenv("DELTADEX_REGISTRY", REGISTRY)
    return monkeypatch


@pytest.fixture
def connection(environment: pytest.MonkeyPatch) -> Iterator[deltadex.Connection]:
    with deltadex.connect() as connection:
        yield connection


def test_the_public_names_are_these() -> None:
    assert sorted(deltadex.__all__) == NAMES
    assert all(hasattr(deltadex, name) for name in NAMES)
    assert set(NAMES) <= set(dir(deltadex))
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        _ = deltadex.embedd  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_large() -> None:
    assert LARGE & imported_by("import deltadex") == set()


def test_reading_needs_neither_torch_nor_mlflow() -> None:
    assert {"torch", "transformers", "mlflow"} & imported_by("from deltadex import connect") == set()


def test_embedding_leaves_torch_to_its_own_process() -> None:
    assert {"torch", "transformers", "mlflow", "psycopg"} & imported_by("from deltadex import embed") == set()


def test_the_version_has_one_source() -> None:
    assert deltadex.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    printed = CliRunner().invoke(cli.app, ["--version"])
    assert (printed.exit_code, printed.stdout) == (0, f"deltadex {deltadex.__version__}\n")


def test_everything_public_has_an_example() -> None:
    documented = {example.name.split(".")[0] for example in _EXAMPLES}
    assert documented == {"deltadex", *NAMES} - {"__version__"}
    methods = {name for name in vars(deltadex.Connection) if not name.startswith("_")} - {"close"}
    assert methods <= {example.name.removeprefix("Connection.") for example in _EXAMPLES}


@pytest.mark.parametrize("example", _EXAMPLES, ids=lambda example: example.name)
def test_examples_in_docstrings_hold(
    example: doctest.DocTest, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(example).failed == 0, capsys.readouterr().out


def test_the_readmes_first_block_after_the_commands_runs(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    after = (ROOT / "README.md").read_text().split("make test ", 1)[1]
    text, block = after.split("```python\n", 1)
    assert "\n    " not in text.split("\n", 1)[1]  # no other block in between
    exec(compile(block.split("```", 1)[0], "README.md", "exec"), {})  # noqa: S102
    assert "vendor-agreements/1" in capsys.readouterr().out


def test_a_finetune_of_another_base_is_refused(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tiny_models.build_base(tmp_path / "other", config=tiny_models.llama_config(hidden_size=16, head_dim=4))
    with pytest.raises(BaseMismatch):
        deltadex.embed("adapter", base=other)


def test_arguments_go_before_the_environment(environment: pytest.MonkeyPatch, database_url: str) -> None:
    environment.setenv("DELTADEX_DATABASE__URL", "postgresql://nobody@127.0.0.1:9/nothing")
    environment.setenv("DELTADEX_REGISTRY", "another")
    with deltadex.connect(database_url=database_url, registry=REGISTRY) as connection:
        assert connection.neighbors("contract-drafter/1", limit=1).neighbors
    with deltadex.connect(Settings(database={"url": database_url}, registry=REGISTRY)) as connection:
        assert connection.clusters()
    with pytest.raises(TypeError, match="not both"):
        deltadex.connect(Settings(), registry=REGISTRY)


def test_without_a_database_the_error_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DELTADEX_DATABASE__URL", raising=False)
    with pytest.raises(SettingsError, match="No database is set"):
        deltadex.connect(data_dir=tmp_path)


@pytest.mark.parametrize("label", ["no-such-model/1", "contract-drafter/99", "contract-drafter", "/1", "a/b"])
def test_an_unknown_version_is_a_stated_error(connection: deltadex.Connection, label: str) -> None:
    with pytest.raises(DeltadexError) as raised:
        connection.neighbors(label)
    assert raised.value.hint


def test_an_unknown_model_has_no_drift(connection: deltadex.Connection) -> None:
    with pytest.raises(DeltadexError, match="no-such-model is not known"):
        connection.drift("no-such-model")
    assert connection.drift("contract-drafter") is None


def test_findings_are_chosen_by_kind_and_status(connection: deltadex.Connection) -> None:
    assert {row.finding.kind for row in connection.findings(kinds=["drift"])} == {"drift"}
    assert connection.findings(statuses=["dismissed"]) == ()
    with pytest.raises(ValueError, match="no-such-kind"):
        connection.findings(kinds=["no-such-kind"])


def test_reads_are_those_of_the_person_at_the_terminal(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    people = tmp_path / "people.toml"
    environment.setenv("DELTADEX_ACCESS__FILE", str(people))
    environment.setenv("LOGNAME", "grace")
    people.write_text(f'[people.{system_user()}]\nrole = "viewer"\nmodels = ["contract-*"]\n')
    with deltadex.connect() as connection:
        [row] = connection.findings(kinds=["exact_duplicate"])
    assert sorted(version.label.split("/")[0] for version in row.versions) == ["contract-drafter", HIDDEN]
    people.write_text('[people.grace]\nrole = "viewer"\n')
    with pytest.raises(AccessDenied, match=f"{system_user()} has no role here"):
        deltadex.connect()


def test_an_unknown_method_is_a_stated_error() -> None:
    with pytest.raises(DeltadexError, match="no method 'other'"):
        deltadex.embed("adapter", base="base", method="other")
