"""Groups of versions that behave alike: how they are found, named and followed over time."""
