"""The Postgres store: connections, migrations, roles, locks and copies."""
