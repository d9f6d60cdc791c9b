"""The whole system, started like by a user, and a real browser."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, expect, sync_playwright
from safetensors.torch import load_file, save_file

from benchmarks.browser import launch
from deltadex.registry.artifacts import version_files
from deltadex.registry.client import Registry
from deltadex.settings import Settings, load_settings


@dataclass(frozen=True)
class Installation:
    """A data folder and the command line on it."""

    data_dir: Path

    @property
    def settings(self) -> Settings:
        return load_settings(data_dir=self.data_dir)

    def start(self, *arguments: str, ready: str, seconds: float) -> subprocess.Popen[str]:
        """Start a long-running command and wait until it prints `ready`."""
        log = self.data_dir.with_suffix(".log")
        with log.open("a") as output:
            process = subprocess.Popen(self._argv(*arguments), stdout=output, stderr=subprocess.STDOUT, text=True)
        printed, deadline = log.stat().st_size, time.monotonic() + seconds
        while ready not in log.read_text()[printed:]:
            ended = process.poll() is not None
            assert not ended, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        return process

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._argv(*arguments), capture_output=True, text=True, timeout=120, check=False)

    def read(self, *arguments: str) -> Any:
        """Run a reading command with `--json`."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def states(self) -> dict[str, str]:
        return {f"{row['name']}/{row['version']}": row["state"] for row in self.read("status")}

    def _argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "deltadex", *arguments, "--data-dir", str(self.data_dir)]


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`deltadex demo --size small`, running, with everything embedded."""
    made = Installation(tmp_path_factory.mktemp("company") / "data")
    process = made.start("demo", "--size", "small", ready="Ready", seconds=600)
    try:
        yield made
    finally:
        made.run("down")
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)  # a busy machine answers late
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def registry(company: Installation) -> Registry:
    return Registry(company.settings.mlflow_uri, name=company.settings.registry)


@pytest.fixture
def finetune(company: Installation, registry: Registry, tmp_path: Path) -> Path:
    """An adapter like one of the company's, with weights of its own."""
    for row in company.read("status"):
        if row["state"] == "embedded":
            version = registry.read(row["name"], row["version"])
            assert version is not None
            files = version_files(registry, version, tmp_path / "checkpoint")
            folders = {Path(path).parent for path in files.sizes() if path.endswith("adapter_model.safetensors")}
            if folders:
                break
    [inner] = folders
    folder = files.fetch(path for path in files.sizes() if Path(path).parent == inner) / inner
    weights = load_file(folder / "adapter_model.safetensors")
    torch.manual_seed(0)
    changed = {name: tensor + 0.1 * tensor.std() * torch.randn_like(tensor) for name, tensor in weights.items()}
    save_file(changed, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder
