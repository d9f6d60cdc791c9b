-- Short codes to search by, embeddings that keep their history, and indexes for the conditions of a search.
-- SQL can't make the codes of embeddings that are there already: migrate.py does, in the same transaction.

alter table embeddings add column current_since timestamptz;
update embeddings set current_since = created_at;
alter table embeddings
    alter column current_since set default now(),
    alter column vector set storage external,
    drop constraint embeddings_pkey,
    add primary key (model_version_id, recipe_id, weights_digest);
create unique index embeddings_current on embeddings (model_version_id, recipe_id) where current_since is not null;
comment on table embeddings is
    'Written once: other weights of a version are another row. Only current_since and is_weak ever change.';
comment on column embeddings.current_since is 'When it was last stored; null: other weights of the version came later.';

create view current_embeddings as select * from embeddings where current_since is not null;
comment on view current_embeddings is 'One per version and recipe.';

create table codes (
    recipe_id        bigint not null references recipes,
    model_version_id bigint not null references model_versions on delete cascade,
    registry         text not null,
    code             halfvec not null,
    primary key (recipe_id, model_version_id)
);
-- In the row: what is out of line costs an index search per code.
alter table codes alter column code set storage plain;
comment on table codes is
    'What is searched: a narrow row for each current embedding that may be compared. Those of deleted versions stay, '
    'because vacuuming an index is slow; searches leave them out.';
comment on column codes.code is 'Unit vector of at most 512 numbers, see codes.py: scalar products estimate similarities.';

create index model_versions_tags on model_versions using gin (tags jsonb_path_ops);
create index model_versions_aliases on model_versions using gin (aliases);
