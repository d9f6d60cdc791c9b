-- Model versions on their way to an embedding, the embeddings, and what was found about them.
-- pgvector and the schema that these tables go into are there already: see migrate.py.

create table recipes (
    id          bigint generated always as identity primary key,
    digest      text not null unique,
    method      jsonb not null,
    base_digest text not null,
    base_name   text not null,
    dimension   integer not null check (dimension > 0),
    created_at  timestamptz not null default now()
);
comment on table recipes is 'One comparable space each: embeddings of different recipes are never compared.';
comment on column recipes.base_name is 'The name under which the base was first met; not part of the identity.';

create table model_versions (
    id             bigint generated always as identity primary key,
    registry       text not null,
    name           text not null,
    version        integer not null,
    created_ms     bigint not null,
    source         text not null,
    run_id         text,
    description    text not null default '',
    tags           jsonb not null default '{}',
    aliases        text[] not null default '{}',
    state          text not null default 'discovered' check (
        state in ('discovered', 'queued', 'running', 'embedded', 'unsupported', 'failed', 'deleted')),
    state_since    timestamptz not null default now(),
    attempt        integer not null default 1 check (attempt > 0),
    queue          text not null check (queue in ('fresh', 'backfill')),
    reason         text not null default '',
    hint           text not null default '',
    flow_run_id    text,
    heartbeat_at   timestamptz,
    weights_digest text,
    artifact_uri   text,
    discovered_at  timestamptz not null default now(),
    revision       integer not null default 1,
    unique (registry, name, version, created_ms)
);
comment on column model_versions.created_ms is 'MLflow''s creation_timestamp: numbers restart when a model is made again.';
comment on column model_versions.attempt is 'Part of the flow run''s idempotency key; raised to run a version again.';
comment on column model_versions.revision is 'Raised by every change but a heartbeat, so that readers can tell cheaply that nothing changed.';
create index model_versions_state on model_versions (state);
create index model_versions_created on model_versions (created_ms);
create index model_versions_weights on model_versions (weights_digest) where weights_digest is not null;

create table state_changes (
    id               bigint generated always as identity primary key,
    model_version_id bigint not null references model_versions on delete cascade,
    state            text not null,
    attempt          integer not null,
    reason           text not null,
    at               timestamptz not null default clock_timestamp()
);
comment on table state_changes is 'Append-only history, written by a trigger so that no path can forget it.';
create index state_changes_version on state_changes (model_version_id, id);

create function note_change() returns trigger language plpgsql as $$
begin
    new.revision := old.revision + 1;
    if new.state is distinct from old.state or new.attempt is distinct from old.attempt then
        new.state_since := now();
    end if;
    return new;
end $$;
create trigger model_versions_change before update of
    name, source, run_id, description, tags, aliases, state, attempt, reason, hint, flow_run_id, weights_digest, artifact_uri
    on model_versions for each row execute function note_change();

create function record_state_change() returns trigger language plpgsql set search_path from current as $$
begin
    if tg_op = 'INSERT' or new.state is distinct from old.state or new.attempt is distinct from old.attempt then
        insert into state_changes (model_version_id, state, attempt, reason)
        values (new.id, new.state, new.attempt, new.reason);
    end if;
    return new;
end $$;
create trigger model_versions_state_change after insert or update on model_versions
    for each row execute function record_state_change();

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
    primary key (model_version_id, recipe_id)
);
comment on column embeddings.vector is 'Mean shift of the last hidden state, float32, not normalised.';
comment on column embeddings.is_weak is 'Too weak to place: takes no part in neighbours, duplicates, drift and clusters.';

create table findings (
    id               bigint generated always as identity primary key,
    kind             text not null check (
        kind in ('exact_duplicate', 'near_duplicate', 'drift', 'wrong_base', 'too_weak')),
    model_version_id bigint not null references model_versions on delete cascade,
    other_id         bigint references model_versions on delete cascade,
    recipe_id        bigint references recipes,
    measure          double precision,
    threshold        double precision,
    evidence         jsonb not null default '{}',
    found_at         timestamptz not null default now(),
    unique nulls not distinct (kind, model_version_id, other_id),
    check (other_id <> model_version_id)
);
comment on column findings.other_id is 'The older one of a pair.';
comment on column findings.recipe_id is 'The space that the measure is from; null where it rests on the weights alone.';
create index findings_other on findings (other_id) where other_id is not null;

create table watchers (
    registry     text primary key,
    watermark_ms bigint not null default 0,
    polled_at    timestamptz,
    swept_at     timestamptz,
    error        text not null default ''
);
comment on table watchers is 'How far the registry has been read, and whether reading it works.';
