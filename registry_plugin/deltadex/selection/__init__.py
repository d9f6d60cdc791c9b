"""Order of the versions that may be for a task: by similarity, by a logged metric, or by both."""
