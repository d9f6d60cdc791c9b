"""Replay: how alike two model versions answer the same prompts."""
