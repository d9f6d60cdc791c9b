"""Inspection of artifact folders: layout, tensors, digest, adapters, merges. Imports neither torch nor MLflow."""
