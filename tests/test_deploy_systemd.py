"""Checks of the units for systemd, which is not started."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.deployment_files import DEPLOY, env_file, unknown_settings

SYSTEMD = DEPLOY / "systemd"
UNITS = sorted(path.name for path in SYSTEMD.glob("*.service"))
HARDENING = SYSTEMD / "deltadex-.service.d" / "hardening.conf"


def environment(unit: str) -> dict[str, str]:
    return env_file(SYSTEMD / "env" / f"{unit.removesuffix('.service')}.env")


def sections(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text())
    return parser


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze knows the options")
def test_systemd_knows_every_option(tmp_path: Path) -> None:
    system = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(SYSTEMD, system)
    for target in ("basic", "multi-user", "network-online", "shutdown", "sysinit"):
        (system / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    commands = "".join((SYSTEMD / unit).read_text() for unit in UNITS)
    for program in ("/bin/sh", *re.findall(r"/opt/\S+/bin/\w+", commands)):
        path = tmp_path / program.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    command = ["systemd-analyze", "verify", "--man=no", f"--root={tmp_path}"]
    verified = subprocess.run([*command, *(str(system / unit) for unit in UNITS)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_no_service_has_more_rights_than_it_needs() -> None:
    service = sections(HARDENING)["Service"]
    for option in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "ProtectHome"):
        assert service[option] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["Restart"] == "on-failure"


def test_what_the_process_that_opens_checkpoints_needs_is_allowed() -> None:
    service = {**sections(HARDENING)["Service"], **sections(SYSTEMD / "deltadex-worker.service")["Service"]}
    assert "AF_UNIX" in service["RestrictAddressFamilies"].split()
    assert set(service["RestrictNamespaces"].split()) == {"user", "net"}
    assert not {"SystemCallFilter", "MemoryDenyWriteExecute", "PrivateDevices"} & set(service)


def test_each_service_has_a_file_of_variables_with_its_own_secrets_and_login() -> None:
    files = re.findall(r"^EnvironmentFile=/etc/deltadex/(.+)$", HARDENING.read_text(), re.MULTILINE)
    assert files == ["settings.env", "%N.env"]
    given = {unit.removeprefix("deltadex-").removesuffix(".service"): environment(unit) for unit in UNITS}
    logins = {
        name: re.match(r"postgresql://(\w+):REPLACE_ME@", one["DELTADEX_DATABASE__URL"])[1]
        for name, one in given.items()
    }
    writer = "deltadex_writer"
    assert logins == {"init": "deltadex", "watcher": writer, "worker": writer, "dashboard": "deltadex_dashboard"}
    assert {name for name, one in given.items() if "DELTADEX_ARTIFACT_KEY" in one} == {"worker"}
    assert {name for name, one in given.items() if "DELTADEX_WEBHOOK__SECRET" in one} == {"init", "watcher"}
    assert {name for name, one in given.items() if "DELTADEX_PREFECT_AUTH" in one} == {"init", "watcher", "worker"}
    assert "REPLACE_ME" not in (SYSTEMD / "env" / "settings.env").read_text()


def test_only_settings_that_exist_are_set() -> None:
    variables = [name for path in (SYSTEMD / "env").iterdir() for name in env_file(path)]
    assert "DELTADEX_TRACKING_URI" in variables
    assert unknown_settings(variables) == set()
