"""Owner, intended use, risk tier, review date and attestation of registered models."""
