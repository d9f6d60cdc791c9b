"""Base models of finetunes: the declared name, and where the files are."""
