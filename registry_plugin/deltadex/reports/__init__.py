"""The governance report, as a page and as tables."""
