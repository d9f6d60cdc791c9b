"""Checks of the deployment files that need no container engine."""

from __future__ import annotations

import re
import tomllib

import yaml
from prefect.flows import load_flow_from_entrypoint

from deltadex_flows import scheduler
from deltadex_flows.entry_points import ENTRY_POINTS
from tests.deployment_files import DEPLOY, ROOT, unknown_settings

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def test_compose_sets_only_settings_that_exist() -> None:
    variables = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    assert "DELTADEX_TRACKING_URI" in variables
    assert unknown_settings(variables) == set()


def test_compose_gives_each_service_its_own_login_and_secrets() -> None:
    environments = {name: service.get("environment", {}) for name, service in COMPOSE["services"].items()}
    users = {
        name: found[1]
        for name, given in environments.items()
        if (found := re.match(r"postgresql://(\w+):", given.get("DELTADEX_DATABASE__URL", "")))
    }
    assert users == {
        "init": "deltadex",
        "watcher": "deltadex_writer",
        "worker": "deltadex_writer",
        "dashboard": "deltadex_dashboard",
    }
    assert {name for name, given in environments.items() if "POSTGRES_PASSWORD" in str(given)} == {"postgres", "init"}
    assert [name for name, given in environments.items() if "DELTADEX_ARTIFACT_KEY" in given] == ["worker"]
    assert [name for name, given in environments.items() if "DELTADEX_WEBHOOK__SECRET" in given] == ["init", "watcher"]


def test_compose_passes_credentials_of_mlflow_to_the_services_that_talk_to_it() -> None:
    services = COMPOSE["services"].items()
    for variable in COMPOSE["x-mlflow"]:
        with_it = {name for name, service in services if variable in service.get("environment", {})}
        assert with_it == {"init", "watcher", "worker"}
    # A variable without a value is passed through where it is set; with one it would hide what the image has.
    assert set(COMPOSE["x-mlflow"].values()) == {None}


def test_compose_builds_stages_that_exist_and_waits_for_services_that_exist() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    for service in COMPOSE["services"].values():
        assert service.get("build", {"target": "control"})["target"] in stages
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])


def test_the_image_copies_what_exists_and_installs_extras_that_exist() -> None:
    copied = [name for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    groups = re.findall(r'"\.\[(.+?)\$\{EXTRAS:\+,\$EXTRAS\}\]"', DOCKERFILE)
    assert {tuple(group.split(",")) for group in groups} == {("flows", "dashboard"), ("embed", "flows")}
    assert {"flows", "dashboard", "embed"} <= set(extras)
    for stage in DOCKERFILE.split("\nFROM ")[2:]:
        assert 'ARG EXTRAS=""' in stage


def test_the_images_run_as_a_numbered_user_who_owns_what_compose_mounts() -> None:
    user, group = re.search(r"useradd --uid (\d+) --gid (\d+)", DOCKERFILE).groups()
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == [f"{user}:{group}"] * 2
    owned = re.search(r"install --directory --owner deltadex --group deltadex (\S+)", DOCKERFILE)[1]
    assert COMPOSE["services"]["worker"]["volumes"] == [f"cache:{owned}"]


def test_prefect_yaml_has_the_deployments_of_the_scheduler() -> None:
    deployments = yaml.safe_load((DEPLOY / "prefect.yaml").read_text())["deployments"]
    flows = {name: load_flow_from_entrypoint(entry_point) for name, entry_point in ENTRY_POINTS.items()}
    made = [
        {
            "name": one.name,
            "entrypoint": ENTRY_POINTS[one.flow],
            "description": flows[one.flow].description,
            "tags": one.tags,
            "work_pool": {"name": "deltadex", "work_queue_name": one.queue},
        }
        for one in scheduler._DEPLOYMENTS
    ]
    assert deployments == made
    assert {name: flow.name for name, flow in flows.items()} == {name: name for name in flows}


def test_every_requirement_of_the_package_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    extras = project["project"]["optional-dependencies"]
    # Not locked: clients of clouds, which nothing here uses. Each company takes its own.
    wanted += [one for name, extra in extras.items() if name not in ("s3", "gcs", "azure") for one in extra]
    locked = {_canonical(line.split("==")[0]) for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert {_canonical(re.split(r"[\[<>=!~ ]", name)[0]) for name in wanted} <= locked


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_prefect_has_a_password_and_nothing_but_the_webhook_listens_beyond_this_machine() -> None:
    services = COMPOSE["services"]
    assert services["prefect"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"].startswith(
        "deltadex:${PREFECT_API_PASSWORD:?"
    )
    assert "*" not in services["prefect"]["environment"]["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert services["worker"]["environment"]["PREFECT_API_AUTH_STRING"]
    published = {name: port for name, service in services.items() for port in service.get("ports", [])}
    assert all(port.startswith(("127.0.0.1:", "${WEBHOOK_ADDRESS:-127.0.0.1}:")) for port in published.values())
    assert COMPOSE["networks"][services["watcher"]["networks"][1]]["internal"] is True
    assert '"--type", "deltadex"' in DOCKERFILE
