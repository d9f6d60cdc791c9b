"""Numbers for monitoring, and the pages that Prometheus and probes read."""
