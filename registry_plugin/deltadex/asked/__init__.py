"""Work that a person asks for on a page or by a command, and a flow does."""
