-- Model versions, their states, the history of these, and how far the registry has been read.
-- The schema that these tables go into and pgvector are there already: see migrate.py. Rights are in roles.py.

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% in % is refused', lower(tg_op), tg_table_name
        using errcode = 'check_violation', hint = tg_argv[0];
end $$;

-- Once per transaction and table, however many rows change.
create function announce() returns trigger language plpgsql as $$
begin
    perform pg_notify('deltadex', tg_table_name);
    return null;
end $$;

create table model_versions (
    id                bigint generated always as identity primary key,
    registry          text not null,
    name              text not null,
    version           integer not null,
    created_ms        bigint not null,
    source            text not null,
    run_id            text,
    description       text not null default '',
    tags              jsonb not null default '{}',
    aliases           text[] not null default '{}',
    state             text not null default 'discovered' check (
        state in ('discovered', 'queued', 'running', 'waiting', 'embedded', 'unsupported', 'skipped', 'failed',
            'deleted')),
    state_since       timestamptz not null default now(),
    attempt           integer not null default 1 check (attempt > 0),
    queue             text not null check (queue in ('fresh', 'backfill')),
    reason            text not null default '',
    hint              text not null default '',
    flow_run_id       text,
    heartbeat_at      timestamptz,
    deaths            integer not null default 0 check (deaths >= 0),
    lacking           text check (lacking in ('memory', 'disk', 'time')),
    more_than         double precision not null default 0,
    weights_digest    text,
    weights_bytes     bigint check (weights_bytes >= 0),
    artifact_uri      text,
    training_digest   text,
    training_settings jsonb not null default '{}',
    metrics           jsonb not null default '{}',
    discovered_at     timestamptz not null default now(),
    revision          integer not null default 1,
    unique (registry, name, version, created_ms),
    check (state <> 'waiting' or lacking is not null)
);
comment on table model_versions is 'What the registry has, and how far each version has come. Rows are never deleted.';
comment on column model_versions.created_ms is 'MLflow''s creation_timestamp: numbers restart when a model is made again.';
comment on column model_versions.attempt is 'Part of the flow run''s idempotency key; raised to run a version again.';
comment on column model_versions.deaths is 'Runs in a row that ended without saying why; the state history has the rest.';
comment on column model_versions.lacking is 'What a waiting version needs more of than it was given.';
comment on column model_versions.more_than is 'In bytes or seconds: what was not enough.';
comment on column model_versions.weights_bytes is 'Size of its own weight files; null: not known.';
comment on column model_versions.training_digest is
    'Equal for finetunes of the same data under the same parameters but for the seed; null where its run does not say.';
comment on column model_versions.training_settings is
    'Learning rate, rank, epochs, examples and template, as its run logged them when it was embedded; what it did not log is not there.';
comment on column model_versions.metrics is 'The last value of each metric of its run, as it was when embedded.';
comment on column model_versions.revision is 'Raised by every change but a heartbeat, so that readers can tell cheaply that nothing changed.';
create index model_versions_state on model_versions (state);
create index model_versions_created on model_versions (created_ms);
create index model_versions_weights on model_versions (weights_digest) where weights_digest is not null;
create index model_versions_tags on model_versions using gin (tags jsonb_path_ops);
create index model_versions_aliases on model_versions using gin (aliases);

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

create table watchers (
    registry     text primary key,
    watermark_ms bigint not null default 0,
    polled_at    timestamptz,
    swept_at     timestamptz,
    error        text not null default ''
);
comment on table watchers is 'How far the registry has been read, and whether reading it works.';

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

-- Writers add to the history by changing states and in no other way. A temporary table must not be taken for ours.
create function record_state_change() returns trigger
language plpgsql security definer set search_path = deltadex, pg_temp as $$
begin
    if tg_op = 'INSERT' or new.state is distinct from old.state or new.attempt is distinct from old.attempt then
        insert into state_changes (model_version_id, state, attempt, reason)
        values (new.id, new.state, new.attempt, new.reason);
    end if;
    return new;
end $$;
create trigger model_versions_state_change after insert or update on model_versions
    for each row execute function record_state_change();

-- Mirrors the guards in versions/transitions.py, for whatever goes past them.
create function refuse_illegal_state() returns trigger language plpgsql as $$
declare
    is_legal boolean;
begin
    if tg_op = 'INSERT' then
        is_legal := new.state = 'discovered';
    elsif (new.registry, new.version, new.created_ms) <> (old.registry, old.version, old.created_ms) then
        raise exception '%/% is another model version than %/%', new.name, new.version, old.name, old.version
            using errcode = 'check_violation', hint = 'A registered model may take a new name; nothing else changes.';
    else
        is_legal := case
            when new.attempt = old.attempt + 1 then new.state = 'discovered'
            when new.attempt <> old.attempt then false
            when new.state = old.state then true
            when old.state = 'deleted' then false
            when new.state in ('embedded', 'deleted') then true
            when new.state = 'queued' then old.state = 'discovered'
            when new.state = 'running' then old.state in ('discovered', 'queued')
            when new.state in ('waiting', 'unsupported', 'skipped', 'failed')
                then old.state in ('discovered', 'queued', 'running')
            else false
        end;
    end if;
    if not is_legal then
        raise exception '%/% can''t become % (attempt %)%', new.name, new.version, new.state, new.attempt,
            case when tg_op = 'UPDATE' then format(' from %s (attempt %s)', old.state, old.attempt) else '' end
            using errcode = 'check_violation', hint = 'See 0001_versions.sql for what is legal.';
    end if;
    return new;
end $$;
create trigger model_versions_legal before insert or update of state, attempt, registry, version, created_ms
    on model_versions for each row execute function refuse_illegal_state();

create trigger model_versions_stay before delete or truncate on model_versions
    for each statement execute function refuse_change('A version that is gone has the state deleted, and stays.');
create trigger state_changes_stay before update or delete or truncate on state_changes
    for each statement execute function refuse_change('The history is only added to.');
-- Heartbeats are no news.
create trigger model_versions_announce after insert or update of
    name, source, run_id, description, tags, aliases, state, attempt, reason, hint, flow_run_id, weights_digest, artifact_uri
    on model_versions for each statement execute function announce();

create function start_over(version_id bigint, why text, has_died boolean)
returns integer language sql security definer set search_path = deltadex, pg_temp as $$
    update model_versions
    set state = 'discovered', attempt = attempt + 1, reason = why, hint = '', flow_run_id = null,
        heartbeat_at = null, deaths = case when has_died then deaths + 1 else 0 end
    where id = version_id returning attempt
$$;
revoke execute on function start_over from public;
comment on function start_over is
    'By which readers may have a version embedded again; returns the new attempt, null where there is no such version.';
