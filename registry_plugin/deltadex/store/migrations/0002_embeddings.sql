-- Embeddings, their short codes, and what is kept beside them.

create table recipes (
    id          bigint generated always as identity primary key,
    digest      text not null unique,
    method      jsonb not null,
    base_digest text not null,
    base_name   text not null,
    dimension   integer not null check (dimension > 0),
    noise_floor double precision check (noise_floor >= 0),
    created_at  timestamptz not null default now()
);
comment on table recipes is 'One comparable space each: embeddings of different recipes are never compared.';
comment on column recipes.method is 'Name, probe set and its digest, readout and dtype.';
comment on column recipes.base_name is 'The name under which the base was first met; not part of the identity.';
comment on column recipes.noise_floor is
    'Largest shift of the base''s own states between machines and batch shapes, as a share of their norm; null: never measured.';

create table embeddings (
    model_version_id bigint not null references model_versions on delete cascade,
    recipe_id        bigint not null references recipes,
    vector           vector not null,
    norm             double precision not null check (norm >= 0),
    base_norm        double precision not null check (base_norm >= 0),
    probe_agreement  double precision not null,
    is_weak          boolean not null,
    weights_digest   text not null,
    created_at       timestamptz not null default now(),
    current_since    timestamptz default now(),
    probe_deltas     halfvec[],
    primary key (model_version_id, recipe_id, weights_digest)
);
alter table embeddings
    alter column vector set storage external,
    alter column probe_deltas set storage external;
create unique index embeddings_current on embeddings (model_version_id, recipe_id) where current_since is not null;
comment on table embeddings is
    'Written once: other weights of a version are another row. Only current_since and is_weak ever change.';
comment on column embeddings.vector is 'Mean shift of the last hidden state, float32, not normalised.';
comment on column embeddings.base_norm is 'Mean norm of the base''s own hidden states: the unit of strength.';
comment on column embeddings.probe_agreement is 'Mean cosine similarity of each probe''s delta with the vector.';
comment on column embeddings.is_weak is 'Too weak to place: takes no part in neighbours, duplicates, drift and clusters.';
comment on column embeddings.weights_digest is 'Hex SHA-256 over the finetune''s own tensors.';
comment on column embeddings.current_since is 'When it was last stored; null: other weights of the version came later.';
comment on column embeddings.probe_deltas is 'Per probe, as a share of base_norm, in half precision; null: not known.';

create view current_embeddings as
    select *, not is_weak and norm > 0 as has_direction from embeddings where current_since is not null;
comment on view current_embeddings is 'One per version and recipe.';
comment on column current_embeddings.has_direction is 'Strong enough to be compared with others, and not zero.';

create view comparable_embeddings as
    select embedding.*, registry, name, version, created_ms, training_digest
    from current_embeddings embedding join model_versions on id = model_version_id
    where has_direction and state <> 'deleted';
comment on view comparable_embeddings is
    'Takes part in duplicates, drift, clusters and the map: a current embedding that has a direction, of a version that is not deleted.';

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
    'What is searched: a narrow row for each current embedding that may be compared. Those of deleted versions stay: '
    'searches leave them out, and `deltadex db prune` removes them.';
comment on column codes.code is 'Unit vector of at most 512 numbers, see codes.py: scalar products estimate similarities.';

-- A table of its own: most readers of vectors don't need it.
create table words (
    model_version_id bigint not null,
    recipe_id        bigint not null,
    weights_digest   text not null,
    promoted         jsonb not null,
    demoted          jsonb not null,
    note             text not null,
    primary key (model_version_id, recipe_id, weights_digest),
    foreign key (model_version_id, recipe_id, weights_digest) references embeddings on delete cascade
);
comment on table words is 'What an embedding says through its base''s own output head.';
comment on column words.promoted is '[[token, score], …], the furthest first; in standard deviations over the vocabulary.';
comment on column words.note is 'Why there are none, where there are none.';

create table imprints (
    model_version_id bigint not null,
    recipe_id        bigint not null,
    weights_digest   text not null,
    weights          bytea not null,
    updates          bytea,
    primary key (model_version_id, recipe_id, weights_digest),
    foreign key (model_version_id, recipe_id, weights_digest) references embeddings on delete cascade
);
comment on table imprints is
    'Weights at the same places of all models of a base, as little-endian float32: they tell a merge from its adapter.';
comment on column imprints.weights is 'The model''s own, under an adapter those of its base; NaN where it has none.';
comment on column imprints.updates is 'What an adapter adds to them; null for a full model.';

create trigger embeddings_written_once before update of
    model_version_id, recipe_id, vector, norm, base_norm, probe_agreement, weights_digest, created_at
    on embeddings for each row execute function refuse_change('Embeddings are written once.');
create trigger embeddings_probes_written_once before update of probe_deltas on embeddings for each row
    when (old.probe_deltas is not null and new.probe_deltas is distinct from old.probe_deltas)
    execute function refuse_change('Embeddings are written once.');
create trigger embeddings_stay before truncate on embeddings
    for each statement execute function refuse_change('`deltadex db prune` removes what is no longer needed.');

create function refuse_to_forget() returns trigger language plpgsql as $$
begin
    if old.current_since is not null
        and exists (select from model_versions where id = old.model_version_id and state <> 'deleted') then
        raise exception 'the current embedding of version id % is not deleted', old.model_version_id
            using errcode = 'check_violation', hint = 'Only those of deleted versions and superseded ones may go.';
    end if;
    return old;
end $$;
create trigger embeddings_kept before delete on embeddings for each row execute function refuse_to_forget();
