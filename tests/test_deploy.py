"""What can be known of the deployment files without a container engine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from deltadex.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def test_compose_sets_only_settings_that_exist() -> None:
    variables = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    ours = [name.removeprefix(PREFIX).lower().split("__") for name in variables if name.startswith(PREFIX)]
    assert ours
    for first, *rest in ours:
        field = Settings.model_fields[first]
        for inner in rest:
            assert inner in field.annotation.model_fields


def test_compose_builds_stages_that_exist_and_waits_for_services_that_exist() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE))
    for service in COMPOSE["services"].values():
        assert service.get("build", {"target": "control"})["target"] in stages
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])


def test_the_image_copies_what_exists_and_installs_extras_that_exist() -> None:
    copied = [name for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {name for group in re.findall(r'"\.\[(.+?)\]"', DOCKERFILE) for name in group.split(",")}
    assert asked
    assert asked <= set(extras)


def test_every_requirement_of_the_package_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    wanted += [one for extra in project["project"]["optional-dependencies"].values() for one in extra]
    locked = {_canonical(line.split("==")[0]) for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert {_canonical(re.split(r"[\[<>=!~ ]", name)[0]) for name in wanted} <= locked


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
