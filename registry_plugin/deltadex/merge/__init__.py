"""Merges of registered versions: predicted from their embeddings, built, checked and registered."""
