-- What 0003 says of deleted versions' codes was true of the index that 0003 was made for.

comment on table codes is
    'What is searched: a narrow row for each current embedding that may be compared. Those of deleted versions stay: '
    'searches leave them out, and `deltadex db prune` removes them.';
