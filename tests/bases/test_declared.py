import json
from pathlib import Path

import pytest

from deltadex.bases.declared import declared_base, locate_base
from deltadex.checkpoints.inspect import inspect
from deltadex.downloads.files import LocalFiles
from deltadex.errors import BaseNotFound
from deltadex.setting_groups import SourceSettings
from deltadex.types import BASE_TAG
from tests import tiny_models

ANYWHERE = SourceSettings(folders=("/",))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    return tiny_models.build_adapter(base, base.parent / "adapter", targets=tiny_models.ALL_LINEAR)


def entry(hint: str) -> dict[str, str]:
    """Return the entry of DELTADEX_BASES in a hint."""
    return json.loads(hint.removeprefix("Add ").partition(" to ")[0])


def test_the_tag_takes_precedence_over_the_files(base: Path, adapter: Path) -> None:
    checkpoint = inspect(LocalFiles(adapter))
    assert declared_base(checkpoint, {}) == str(base)
    assert declared_base(checkpoint, {BASE_TAG: "acme/base-7b"}) == "acme/base-7b"


def test_a_model_that_names_no_base_is_told_about_the_tag(base: Path) -> None:
    with pytest.raises(BaseNotFound) as caught:
        declared_base(inspect(LocalFiles(base)), {})
    assert BASE_TAG in caught.value.hint


def test_the_settings_take_precedence_over_a_folder_of_that_name(base: Path) -> None:
    assert locate_base(str(base), {}, ANYWHERE) == str(base)
    assert locate_base(str(base), {str(base): "models:/base/1"}, ANYWHERE) == "models:/base/1"


def test_a_models_uri_is_returned_unchanged() -> None:
    assert locate_base("models:/base/1", {}, ANYWHERE) == "models:/base/1"


def test_a_missing_base_is_answered_with_the_setting_to_make() -> None:
    with pytest.raises(BaseNotFound, match="acme/base-7b") as caught:
        locate_base("acme/base-7b", {"other": "models:/other/1"}, ANYWHERE)
    assert entry(caught.value.hint).keys() == {"acme/base-7b"}, "other teams' bases are not named"


def test_a_relative_name_is_not_looked_up_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BaseNotFound):
        locate_base("gpt2", {}, ANYWHERE)


CACHED = "/home/li/.cache/huggingface/hub/models--acme--base-7b/snapshots/0123abc"


@pytest.mark.parametrize(
    ("declared", "bases"),
    [
        ("/home/li/models/base-7b", {"base-7b": "models:/base/1"}),
        ("/home/li/models/base-7b/", {"base-7b": "models:/base/1"}),
        ("D:\\models\\base-7b", {"base-7b": "models:/base/1"}),
        ("/home/li/models/base-7b", {"/home/li/models/base-7b": "models:/base/1", "base-7b": "models:/other/1"}),
        (CACHED, {"acme/base-7b": "models:/base/1"}),
        ("/cache/models--gpt2/snapshots/0123abc/", {"gpt2": "models:/base/1"}),
    ],
)
def test_a_path_of_the_training_machine_is_found_by_its_name(declared: str, bases: dict) -> None:
    assert locate_base(declared, bases, ANYWHERE) == "models:/base/1"


def test_a_hub_name_is_not_matched_to_another_model(base: Path) -> None:
    with pytest.raises(BaseNotFound):
        locate_base("acme/base-7b", {"base-7b": "models:/base/1"}, ANYWHERE)


@pytest.mark.parametrize(("declared", "wanted"), [(CACHED, "acme/base-7b"), ("/home/li/base-7b", "/home/li/base-7b")])
def test_the_hint_names_the_key_to_set(declared: str, wanted: str) -> None:
    with pytest.raises(BaseNotFound) as caught:
        locate_base(declared, {}, ANYWHERE)
    setting = entry(caught.value.hint)
    assert locate_base(declared, dict.fromkeys(setting, "models:/base/1"), ANYWHERE) == "models:/base/1"
    assert list(setting) == [wanted]


def test_a_folder_that_is_not_allowed_is_answered_as_one_that_does_not_exist(base: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to(base)
    allowed = SourceSettings(folders=(tmp_path / "open",))
    there = [
        base,
        tmp_path / "open" / "link",
        tmp_path / "open" / ".." / "open" / "link",
        Path("/etc"),
        Path("/proc/self"),
    ]
    texts = set()
    for name in [*map(str, there), "/no/such/folder", "/\0"]:
        with pytest.raises(BaseNotFound) as caught:
            locate_base(name, {"other": "models:/other/1"}, allowed)
        text = f"{caught.value.message} {caught.value.hint}"
        texts.add(text.replace(name, "NAME").replace(json.dumps(name)[1:-1], "NAME"))
    assert len(texts) == 1
    (tmp_path / "open" / "base").mkdir()
    assert locate_base(str(tmp_path / "open" / "base"), {}, allowed)


def test_only_allowed_models_are_bases() -> None:
    allowed = SourceSettings(base_models=("bases-*",))
    assert locate_base("models:/bases-7b/1", {}, allowed) == "models:/bases-7b/1"
    assert locate_base("models:/payroll/1", {"models:/payroll/1": "/srv/x"}, allowed) == "/srv/x"
    for name in ("models:/payroll/1", "models:/payroll@bases-x", "models:/x/bases-7b/1", "models://host/bases-7b/1"):
        with pytest.raises(BaseNotFound):
            locate_base(name, {}, allowed)
