"""Requests to MLflow's app with our pages, in a process of its own: `python -m tests.mlflow_plugin.asking JSON`.

MLflow has one Flask app per process, so each way to wrap it needs its own. Takes a list of headers, asks for the
models with each, and prints a list of [status, answer].
"""

from __future__ import annotations

import json
import sys

from flask import Flask
from starlette.testclient import TestClient

from deltadex.errors import DeltadexError
from deltadex.mlflow_plugin.app import create_app

_PATH = "/deltadex/api/models"


def main(asked: list[list[tuple[str, str]]]) -> list[tuple[int, str]]:
    app = create_app()
    if isinstance(app, Flask):
        answers = [app.test_client().get(_PATH, headers=headers) for headers in asked]
        return [(answer.status_code, answer.text) for answer in answers]
    client = TestClient(app, base_url="http://localhost")
    return [(answer.status_code, answer.text) for answer in (client.get(_PATH, headers=headers) for headers in asked)]


if __name__ == "__main__":
    try:
        print(json.dumps(main(json.loads(sys.argv[1]))))  # noqa: T201
    except DeltadexError as error:
        sys.exit(f"{error.message}. {error.hint}")
