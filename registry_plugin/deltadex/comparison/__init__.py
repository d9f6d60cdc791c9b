"""Comparison of any two model versions: what differs, how similar they are, and what that means."""
