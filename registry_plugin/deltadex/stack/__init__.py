"""The embedded stack: Postgres, MLflow, Prefect, watcher, worker and dashboard as child processes of `deltadex up`."""
