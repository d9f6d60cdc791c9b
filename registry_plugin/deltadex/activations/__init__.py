"""torch and friends are imported inside the functions and modules of this package only, never on import of it."""
