"""Model weights, streamed from their files layer by layer."""
