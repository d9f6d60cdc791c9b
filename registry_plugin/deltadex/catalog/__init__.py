"""The list of registered models: search by words, owner, domain, state and date, one page at a time."""
