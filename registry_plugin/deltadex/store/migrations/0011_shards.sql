-- Shards: waiting versions of one base that one flow run embeds together.

create table shards (
    id           bigint generated always as identity primary key,
    registry     text not null,
    base         text,
    queue        text not null check (queue in ('fresh', 'backfill')),
    flow_run_id  text,
    heartbeat_at timestamptz,
    created_at   timestamptz not null default now(),
    ended_at     timestamptz
);
comment on table shards is 'Waiting versions of one base that one flow run embeds together. A shard whose run dies ends; its versions go into others.';
comment on column shards.base is 'Declared base of its versions; null: not known before their configs are read.';
comment on column shards.heartbeat_at is 'Null until its run has begun; until then versions may be added.';
create index shards_open on shards (registry) where ended_at is null;

alter table model_versions
    add column shard_id bigint references shards,
    add column goes_alone boolean not null default false,
    add column declared_base text;
comment on column model_versions.shard_id is 'The shard that it is or was in; null: a run of its own.';
comment on column model_versions.goes_alone is 'An earlier run died with it: it must not take a shard with it.';
comment on column model_versions.declared_base is 'Name of its base, once its configs were read.';
create index model_versions_shard on model_versions (shard_id) where shard_id is not null;

alter table model_versions add column priority integer not null default 0;
comment on column model_versions.priority is 'Higher goes first among the versions that wait.';
alter table watchers add column is_paused boolean not null default false;
comment on column watchers.is_paused is 'Whether the backfill is paused; fresh versions are embedded anyway.';

-- A version that its shard did not reach goes back, at the same attempt.
create or replace function refuse_illegal_state() returns trigger language plpgsql as $$
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
            when new.state = 'discovered' then old.state = 'queued' and old.shard_id is not null
            when new.state in ('waiting', 'unsupported', 'skipped', 'failed')
                then old.state in ('discovered', 'queued', 'running')
            else false
        end;
    end if;
    if not is_legal then
        raise exception '%/% can''t become % (attempt %)%', new.name, new.version, new.state, new.attempt,
            case when tg_op = 'UPDATE' then format(' from %s (attempt %s)', old.state, old.attempt) else '' end
            using errcode = 'check_violation', hint = 'See 0011_shards.sql for what is legal.';
    end if;
    return new;
end $$;

create or replace function start_over(version_id bigint, why text, has_died boolean)
returns integer language sql security definer set search_path = deltadex, pg_temp as $$
    update model_versions
    set state = 'discovered', attempt = attempt + 1, hint = '', flow_run_id = null, heartbeat_at = null, shard_id = null,
        reason = case when may_name_actors() or has_column_privilege(session_user, 'deltadex.model_versions', 'state', 'update')
            then why else session_user || ' asked for it' end,
        deaths = case when has_died then deaths + 1 else 0 end, goes_alone = has_died
    where id = version_id returning attempt
$$;
