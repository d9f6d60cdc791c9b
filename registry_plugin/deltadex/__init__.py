"""Deltadex: the delta activations of every model version in an MLflow registry."""
