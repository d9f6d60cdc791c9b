"""A set-up that cannot continue ends with a one-line hint."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.install


def last_line(venv: Path, **environment: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_FIND", "PIP_EXTRA"))}
    command = [str(ROOT / "deploy" / "install.sh"), str(venv)]
    done = subprocess.run(
        command, env={**own, "PIP_CONFIG_FILE": os.devnull, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


def test_an_interpreter_of_another_version_is_named_with_what_is_needed(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.18 && exit\nexit 1\n')
    old.chmod(0o755)
    said = last_line(tmp_path / "venv", PYTHON=str(old))
    assert said == f"deltadex: {old} is Python 3.9.18, and Python 3.11, 3.12 or 3.13 is needed: name one by PYTHON=…"


def test_a_machine_without_a_network_is_told_so(tmp_path: Path) -> None:
    said = last_line(tmp_path / "venv", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert "The package index can't be reached" in said


def test_an_untrusted_certificate_leads_to_the_setting_for_it(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = last_line(tmp_path / "venv", PIP_INDEX_URL=f"https://127.0.0.1:{server.server_port}/simple")
        server.shutdown()
    assert "Set PIP_CERT" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_says_where_room_is_needed(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        said = last_line(small / "venv")
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "MB are free. Free some room" in said
