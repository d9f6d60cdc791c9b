"""Reviews: decisions of people about findings, on record."""
