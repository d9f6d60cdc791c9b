"""Ingestion: registry to rows, embeddings and findings."""
