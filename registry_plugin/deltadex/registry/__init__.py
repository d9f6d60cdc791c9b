"""Client of MLflow: reading the registry, fetching artifacts, writing tags and artifacts, the webhook."""

import os

# MLflow's default is seven retries with exponential backoff: calls hang for minutes when its server is down.
# Our loops retry by themselves, so a call should fail quickly.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# What MLflow's server passes on is read through it: a worker need not reach the store behind, and embeddings are small.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
