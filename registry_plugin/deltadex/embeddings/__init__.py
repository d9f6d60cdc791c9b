"""Embeddings as artifacts and as rows of the store."""
