"""Pure numpy: what vectors and facts say. No store, no clock, no torch."""
