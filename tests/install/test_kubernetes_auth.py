"""Our pages inside mlflow-kubernetes-plugins, in an environment of its own.

A Kubernetes API server can't be had from a package index: a small one answers access reviews as Kubernetes does.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from deltadex.store.database import Database
from tests.install.environments import ROOT, environment_with
from tests.install.interpreters import supported_interpreters, version_of
from tests.stored import REGISTRY, embedded

pytestmark = pytest.mark.install


def token(name: str) -> str:
    """Return a token of a service account, as far as a client reads it."""
    parts = [{"alg": "RS256"}, {"sub": name}]
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(one).encode()).decode() for one in parts), "c2lnbmVk"])


ANN, ZOE, BOB = "system:serviceaccount:models:ann", "system:serviceaccount:models:zoe", "system:serviceaccount:ci:bob"
#: Who may list registered models in the namespace; Kubernetes knows Bob, too.
LISTS = {token(ANN): True, token(ZOE): True, token(BOB): False}


class AccessReviews(BaseHTTPRequestHandler):
    """Kubernetes's endpoint for `SelfSubjectAccessReview`."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = asked["spec"]["resourceAttributes"]
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        is_list = (wanted["resource"], wanted["verb"], wanted["namespace"]) == ("registeredmodels", "list", "models")
        status = {"allowed": LISTS.get(bearer, False) and is_list}
        body = json.dumps({**asked, "status": status}).encode()
        self.send_response(201 if bearer in LISTS else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def environment(database: Database, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables of a server whose access file lists Ann, who sees one of two models."""
    with database.transaction() as tx:
        embedded(tx, "payroll", np.array([1.0, 0.1]))
        embedded(tx, "sql-writer", np.array([1.0, 0.0]))
    people = tmp_path / "people.json"
    people.write_text(json.dumps({"people": {ANN: {"role": "viewer", "models": ["sql-*"]}}}))
    with ThreadingHTTPServer(("127.0.0.1", 0), AccessReviews) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        named = {"name": "here"}
        cluster = {**named, "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        context = {**named, "context": {"cluster": "here", "user": "here"}}
        config = {"clusters": [cluster], "contexts": [context], "users": [{**named, "user": {}}]}
        (tmp_path / "kubeconfig").write_text(json.dumps({"current-context": "here", **config}))
        yield os.environ | {
            "PYTHONPATH": str(ROOT),
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "MLFLOW_K8S_AUTH_WORKSPACES_ENABLED": "false",
            "MLFLOW_K8S_AUTH_NAMESPACE": "models",
            "DELTADEX_MLFLOW_APP": "kubernetes-auth",
            "DELTADEX_ACCESS__FILE": str(people),
            "DELTADEX_DATABASE__URL": database.url,
            "DELTADEX_DATA_DIR": str(tmp_path),
            "DELTADEX_REGISTRY": REGISTRY,
            "_MLFLOW_SGI_NAME": "uvicorn",
        }
        server.shutdown()


def test_a_token_that_kubernetes_accepts_opens_what_its_subject_may_see(environment: dict[str, str]) -> None:
    newest = supported_interpreters()[-1]
    if str(version_of(newest)).startswith("3.11"):
        pytest.skip("mlflow-kubernetes-plugins needs Python 3.12 or newer, which this machine lacks")
    python = environment_with("mlflow-kubernetes-plugins>=2,<3", python=newest)
    tokens = [[("Authorization", f"Bearer {one}")] for one in (token(ANN), token(ZOE), token(BOB), "forged")]
    command = [str(python), "-m", "tests.mlflow_plugin.asking", json.dumps([*tokens, [], [("X-Remote-User", ANN)]])]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [status for status, _ in answers] == [200, 403, 403, 401, 401, 401]
    assert [one["name"] for one in json.loads(answers[0][1])["models"]] == ["sql-writer"]
    assert "zoe has no role here" in answers[1][1]
    assert all("sql-writer" not in text for _, text in answers[1:])
