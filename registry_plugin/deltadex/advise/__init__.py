"""Advice for a task: use a model that exists, prompt the base, merge or train, measured on examples."""
