"""Downloads of remote files: on demand, resumable, in a bounded cache."""
