"""Charts, as pure functions from values to figures or HTML."""
