"""News for a person: changes since the last visit, open findings, and what to do."""
