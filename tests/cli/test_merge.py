"""`deltadex merge` of registered adapters and full models, with real MLflow, Postgres, peft and mergekit."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from peft import PeftModel
from safetensors.torch import load_file

from deltadex.app import App
from deltadex.engine import shared
from deltadex.ingest import discovery, embed, record, resolve
from deltadex.types import VersionRow
from deltadex.versions import queries as versions
from tests import tiny_models
from tests.cli.test_main import deltadex
from tests.registering import register_folder

NAME = "acme/base-7b"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.build_base(tmp_path / "base")


@pytest.fixture
def own(app: App, base: Path, tmp_path: Path) -> Iterator[App]:
    other = tiny_models.build_base(tmp_path / "other", seed=1)
    bases = {NAME: str(base), "copy": str(base), "other": str(other)}
    own = replace(app, settings=app.settings.model_copy(update={"bases": bases}))
    yield own
    shared.end_embedding_process(own.settings)


@pytest.fixture
def environment(own: App) -> dict[str, str]:
    return {
        "DELTADEX_DATABASE__URL": own.database.url,
        "DELTADEX_TRACKING_URI": str(own.settings.tracking_uri),
        "DELTADEX_PREFECT_API_URL": str(own.settings.prefect_api_url),
        "DELTADEX_REGISTRY": own.registry.name,
        "DELTADEX_DATA_DIR": str(own.settings.data_dir),
        "DELTADEX_BASES": json.dumps(own.settings.bases),
    }


def registered(app: App, name: str, folder: Path, *, base: str = NAME) -> VersionRow:
    version = register_folder(app.registry, name, folder, **{"deltadex.base": base})
    discovery.poll(app)
    with app.database.transaction() as tx:
        [row] = versions.find(tx, app.registry.name, name, version.ref.version)
    return row


def embedded(app: App, name: str, folder: Path, *, base: str = NAME) -> np.ndarray:
    """Register a version and embed it as the flow does; return its vector."""
    row = registered(app, name, folder, base=base)
    with shared.embedding_process(app.settings) as process, resolve.workspace(app, row) as hold:
        resolved = resolve.resolve(app, process, row, hold)
        fetched = resolve.fetch(app, process, resolved, hold)
        value = embed.embed(process, fetched, deadline_seconds=120)
    made = record.Embedded(row, value, resolved.base_name, "runs:/x", weights=fetched.weights)
    record.store_and_find(app, [made])
    return value.vector


def adapter(base: Path, folder: Path, **changes: object) -> Path:
    return tiny_models.build_adapter(base, folder, **{"targets": tiny_models.ALL_LINEAR, "strength": 0.005, **changes})


def said(*arguments: str, code: int = 0, environment: Mapping[str, str]) -> dict[str, object]:
    done = deltadex("merge", *arguments, "--json", **environment)
    assert done.returncode == code, done.stderr
    return dict(json.loads(done.stdout))


def test_a_merge_is_predicted_built_checked_and_registered(
    own: App, base: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    folders = [adapter(base, tmp_path / f"a{number}", seed=number) for number in range(2)]
    vectors = [embedded(own, f"a{number}", folder) for number, folder in enumerate(folders)]
    labels = ["a0/1", "a1/1"]

    plan = said(*labels, "--weight", "0.7", "--weight", "0.3", environment=environment)
    total = 0.7 * vectors[0] + 0.3 * vectors[1]
    expected = [float(total @ one / np.linalg.norm(total) / np.linalg.norm(one)) for one in vectors]
    assert plan["prediction"]["similarity_to_parents"] == pytest.approx(expected, abs=1e-4)
    assert (plan["built"], plan["registered"]) == (None, None)
    assert 0.2 < plan["prediction"]["conflict"] < 0.8  # random updates

    output = tmp_path / "merged"
    done = said(*labels, "--output", str(output), "--register", "both", environment=environment)
    built = done["built"]
    assert (built["kind"], built["method"], built["base"], built["rank"]) == ("adapter", "cat", NAME, 8)
    assert built["weights"] == [0.5, 0.5]
    assert built["similarity_to_prediction"] > 0.9
    assert not list(tmp_path.glob(".merged*"))
    merged = PeftModel.from_pretrained(tiny_models.load(base), output).merge_and_unload().state_dict()
    parts = [PeftModel.from_pretrained(tiny_models.load(base), one).merge_and_unload().state_dict() for one in folders]
    for name, tensor in merged.items():
        assert np.allclose(tensor, (parts[0][name] + parts[1][name]) / 2, atol=1e-5), name

    assert done["registered"] == {"name": "both", "version": 1}
    version = own.registry.read("both", 1)
    assert version is not None
    assert json.loads(version.tags["deltadex.parents"]) == labels
    assert version.tags["deltadex.merge_method"] == "cat"
    assert json.loads(version.tags["deltadex.merge_weights"]) == [0.5, 0.5]
    assert version.tags["deltadex.base"] == NAME
    again = embedded_again(own, "both", 1)  # as the watcher and the flow do
    assert float(again @ total) > 0

    shown = deltadex("merge", *labels, "--dry-run", **environment, COLUMNS="80")
    assert (shown.returncode, "shift kept" in shown.stdout, "both/1" in shown.stdout) == (0, True, True)


def embedded_again(app: App, name: str, number: int) -> np.ndarray:
    discovery.poll(app)
    with app.database.transaction() as tx:
        [row] = versions.find(tx, app.registry.name, name, number)
    with shared.embedding_process(app.settings) as process, resolve.workspace(app, row) as hold:
        fetched = resolve.fetch(app, process, resolve.resolve(app, process, row, hold), hold)
        value = embed.embed(process, fetched, deadline_seconds=120)
    record.store_and_find(app, [record.Embedded(row, value, NAME, "runs:/x")])
    return value.vector


def test_weights_are_searched_on_examples(own: App, base: Path, environment: dict[str, str], tmp_path: Path) -> None:
    for number in range(2):
        registered(own, f"a{number}", adapter(base, tmp_path / f"a{number}", seed=number, strength=0.3))
    examples = tmp_path / "task.jsonl"
    texts = ("Below is an instruction", "a request", "Write a response", "Provide", "The task")
    examples.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    # So strong a random update is not additive: the exit code says so.
    found = said(
        "a0/1", "a1/1", "--output", str(tmp_path / "merged"), "--examples", str(examples), "--budget", "10", code=4,
        environment=environment,
    )  # fmt: skip
    assert not found["built"]["is_as_predicted"]
    search, built = found["built"]["search"], found["built"]
    assert found["prediction"] is None  # they are not embedded yet, and built all the same
    assert built["weights"] == search["found"]["weights"]
    assert search["tried"] == 10
    assert search["found"]["held_out_nats"] is not None
    few = tmp_path / "few.jsonl"
    few.write_text(json.dumps({"text": "one"}))
    refused = deltadex("merge", "a0/1", "a1/1", "--examples", str(few), **environment)
    assert (refused.returncode, "at least 4 examples" in refused.stderr) == (2, True)


def test_what_cannot_be_merged_is_said(own: App, base: Path, environment: dict[str, str], tmp_path: Path) -> None:
    registered(own, "plain", adapter(base, tmp_path / "plain"))
    registered(own, "same", adapter(base, tmp_path / "same", seed=1), base="copy")
    registered(own, "dora", adapter(base, tmp_path / "dora", use_dora=True))
    registered(own, "stranger", adapter(tmp_path / "other", tmp_path / "stranger"), base="other")
    registered(own, "full", tiny_models.build_full_finetune(base, tmp_path / "full"))
    hostile = registered(own, "[red]<b>x\u202e", adapter(base, tmp_path / "hostile", seed=2))
    output = ("--output", str(tmp_path / "none"))
    for other, says in {
        "dora/1": "use_dora",
        "stranger/1": "different bases",
        "full/1": "extract-adapter full/1",
        "nobody/1": "not known",
    }.items():
        refused = deltadex("merge", "plain/1", other, *output, **environment)
        assert (refused.returncode, says in refused.stderr) == (1, True), refused.stderr
        assert not (tmp_path / "none").exists()
    unfit = deltadex("merge", "full/1", "full/1", **environment)
    assert (unfit.returncode, "each once" in unfit.stderr) == (2, True)
    for wrong in (
        ["--weight", "1"],
        ["--weight", "nan", "--weight", "1"],
        ["--register", "x"],
        [*output, "--register", "a/b"],
    ):
        assert deltadex("merge", "plain/1", "same/1", *wrong, **environment).returncode == 2
    # Two names of one base are one base.
    done = deltadex("merge", "plain/1", "same/1", hostile.label, "--output", str(tmp_path / "fine"), **environment)
    assert done.returncode == 0, done.stderr
    assert "\u202e" not in done.stdout
    assert "[red]<b>x" in done.stdout


def mergekit() -> str | None:
    """mergekit-yaml of this environment, on the path, or that DELTADEX_MERGEKIT names."""
    return shutil.which(os.environ.get("DELTADEX_MERGEKIT", "mergekit-yaml"))


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_full_models_are_merged_by_mergekit(
    own: App, base: Path, environment: dict[str, str], tmp_path: Path, method: str
) -> None:
    program = mergekit()
    if program is None:
        pytest.skip("mergekit is optional and not installed: pip install mergekit, or set DELTADEX_MERGEKIT")
    environment = {**environment, "DELTADEX_MERGEKIT": program}
    folders = [
        tiny_models.build_full_finetune(base, tmp_path / f"f{number}", seed=number, strength=0.0005)
        for number in range(2)
    ]
    for number, folder in enumerate(folders):
        registered(own, f"f{number}", folder)
    output = tmp_path / "merged"
    done = said("f0/1", "f1/1", "--method", method, "--output", str(output), code=0, environment=environment)
    assert (done["built"]["kind"], done["built"]["rank"]) == ("full", None)
    assert not {"README.md", "mergekit_config.yml", ".mergekit.json"} & {file.name for file in output.iterdir()}
    [one, other], merged = (load(folder) for folder in folders), load(output)
    if method == "linear":
        assert done["built"]["similarity_to_prediction"] > 0.9
        for name, tensor in merged.items():
            assert np.allclose(tensor, (one[name] + other[name]) / 2, atol=1e-5), name
    assert tiny_models.load(output).config.vocab_size == tiny_models.VOCABULARY
    refused = deltadex("merge", "f0/1", "f1/1", "--method", "cat", "--output", str(tmp_path / "x"), **environment)
    assert (refused.returncode, "Use linear" in refused.stderr) == (1, True)


def load(folder: Path) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in load_file(folder / "model.safetensors").items()}


def test_without_mergekit_it_says_how_to_get_it(
    own: App, base: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    for number in range(2):
        registered(own, f"f{number}", tiny_models.build_full_finetune(base, tmp_path / f"f{number}", seed=number))
    missing = {**environment, "DELTADEX_MERGEKIT": str(tmp_path / "no-such-program")}
    refused = deltadex("merge", "f0/1", "f1/1", "--output", str(tmp_path / "x"), **missing)
    assert (refused.returncode, "pip install mergekit" in refused.stderr) == (1, True), refused.stderr
