"""The edge to MLflow: reading the registry, fetching artifacts, writing back, the webhook."""

import os

# MLflow's own default is seven retries with exponential backoff: minutes of silence when its server is away.
# Our loops come back by themselves, so a call should say quickly that it did not work.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
