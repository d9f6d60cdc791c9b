import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from deltadex.cli.embed import embed
from deltadex.errors import BrokenCheckpoint
from tests import tiny_models

command = typer.Typer()
command.command()(embed)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base")
    tiny_models.build_adapter(base, folder / "file")  # also the name of an argument of numpy.savez
    tiny_models.build_full_finetune(base, folder / "full-v1.5")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(tmp_path_factory.mktemp("home")))


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_every_folder_becomes_one_vector_under_its_name(models: Path, tmp_path: Path) -> None:
    names, output = ["file", "full-v1.5"], tmp_path / "out.npz"
    code, printed = run(*(models / name for name in names), "--base", models / "base", "--output", output, "--json")
    assert code == 0
    with np.load(output, allow_pickle=False) as content:
        arrays = dict(content)
    assert sorted(arrays) == names
    assert all(arrays[name].shape == (tiny_models.HIDDEN_SIZE,) for name in names)
    described = json.loads(printed)
    assert [entry["model"] for entry in described] == names
    assert described[0]["norm"] == pytest.approx(np.linalg.norm(arrays["file"]), rel=1e-5)


def test_a_bad_model_is_reported_and_does_not_stop_the_others(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    code, printed = run(models / "empty", models / "file", "--base", models / "base", "--output", output)
    assert code == 1
    assert "holds no files" in printed
    with np.load(output) as content:
        assert content.files == ["file"]
    assert list(tmp_path.iterdir()) == [output]


def test_where_nothing_can_be_embedded_no_file_is_touched(models: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npz"
    output.write_text("yesterday's")
    code, printed = run(models / "empty", "--base", models / "base", "--output", output)
    assert code == 1
    assert "Nothing could be embedded" in printed
    assert output.read_text() == "yesterday's"


def test_two_folders_of_one_name_are_refused_before_any_work(models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    code, _ = run(models / "file", tmp_path / "file", "--base", "nowhere", "--output", tmp_path / "out.npz")
    assert code == 2


def test_an_output_in_no_folder_is_refused_before_any_work(models: Path, tmp_path: Path) -> None:
    code, _ = run(models / "file", "--base", "nowhere", "--output", tmp_path / "missing" / "out.npz")
    assert code == 2


def test_a_bad_base_is_the_error_of_the_whole_command(models: Path, tmp_path: Path) -> None:
    with pytest.raises(BrokenCheckpoint, match="holds no files"):
        run(models / "file", "--base", models / "empty", "--output", tmp_path / "out.npz")
