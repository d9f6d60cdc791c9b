"""Search for models by examples of a task."""
