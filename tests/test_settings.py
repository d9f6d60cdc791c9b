"""Settings come from options, the environment, the running stack and the data folder, in this order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deltadex.errors import SettingsError
from deltadex.settings import SETTINGS_FILE, STACK_FILE, load_settings


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DELTADEX_DATA_DIR", str(tmp_path))


def test_options_go_before_variables_before_the_running_stack_before_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / SETTINGS_FILE).write_text(json.dumps({"registry": "folder", "work_pool": "folder"}))
    stack = {"tracking_uri": "stack", "prefect_api_url": "stack", "registry": "stack"}
    (tmp_path / STACK_FILE).write_text(json.dumps({"settings": stack}))
    monkeypatch.setenv("DELTADEX_TRACKING_URI", "variable")
    monkeypatch.setenv("DELTADEX_PREFECT_API_URL", "variable")
    settings = load_settings(prefect_api_url="option")
    found = (settings.prefect_api_url, settings.tracking_uri, settings.registry, settings.work_pool)
    assert found == ("option", "variable", "stack", "folder")


def test_one_value_of_a_group_leaves_the_others_at_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTADEX_WATCH__POLL_SECONDS", "2")
    watch = load_settings().watch
    assert (watch.poll_seconds, watch.overlap_seconds) == (2, 60)


def test_a_misspelt_variable_is_an_error_with_the_right_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTADEX_TRACKING_URL", "http://mlflow")
    with pytest.raises(SettingsError, match="DELTADEX_TRACKING_URL") as caught:
        load_settings()
    assert "DELTADEX_TRACKING_URI" in caught.value.hint


@pytest.mark.parametrize("variable", ["DELTADEX_WATCH__POLL_SECONDS", "DELTADEX_THRESHOLDS__NEAR_DUPLICATE_SIMILARITY"])
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "-7")
    with pytest.raises(SettingsError, match=variable):
        load_settings()


def test_a_missing_address_says_how_to_give_it() -> None:
    with pytest.raises(SettingsError) as caught:
        _ = load_settings().database_url
    assert "DELTADEX_DATABASE__URL" in caught.value.hint
    assert "deltadex up" in caught.value.hint


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTADEX_DATABASE__URL", "postgresql://me:hunter2@localhost/x")
    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize(
    ("given", "names"),
    [("*", ("*",)), ("legal, support", ("legal", "support")), ('["legal"]', ("legal",)), ("", ())],
)
def test_workspaces_are_written_with_commas_or_as_json(
    monkeypatch: pytest.MonkeyPatch, given: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DELTADEX_WORKSPACES", given)
    assert load_settings().workspaces == names


def test_a_workspace_is_a_registry_of_its_own_and_the_default_one_has_the_server_s_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DELTADEX_REGISTRY", "acme")
    monkeypatch.setenv("DELTADEX_DASHBOARD_URL", "https://deltadex.example")
    settings = load_settings()
    legal = settings.within("legal")
    assert (settings.registry, legal.registry, legal.server) == ("acme", "acme/legal", "acme")
    assert legal.within("support").registry == "acme/support"
    assert legal.within("default").registry == "acme"
    assert settings.version_link("a", 1) == "https://deltadex.example/model?model=a&version=1"
    assert legal.version_link("a", 1) == "https://deltadex.example/model?model=a&version=1&workspace=legal"
    assert load_settings(registry="acme/legal").workspace == "legal"
    monkeypatch.setenv("DELTADEX_WORKSPACE", "legal")
    assert load_settings().registry == "acme/legal"
    monkeypatch.setenv("DELTADEX_REGISTRY", "acme/legal")  # as a service of the stack gets both
    assert load_settings().registry == "acme/legal"
