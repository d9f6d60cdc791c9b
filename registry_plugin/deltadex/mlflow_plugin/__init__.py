"""Pages inside MLflow's own server."""
