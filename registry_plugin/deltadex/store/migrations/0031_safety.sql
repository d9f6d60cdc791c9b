-- Safety drift: directions of bases, and versions measured along them, asked by people or for every version, by a flow.

create table safety_bases (
    base_digest   text not null,
    probes_digest text not null,
    refusal       bytea not null,
    traits        bytea not null,
    found         jsonb not null,
    seconds       double precision not null check (seconds >= 0),
    measured_at   timestamptz not null default clock_timestamp(),
    primary key (base_digest, probes_digest)
);
alter table safety_bases alter column refusal set storage external, alter column traits set storage external;
comment on table safety_bases is 'Directions learned from a base alone; every version of it is measured along them.';
comment on column safety_bases.base_digest is 'Of the base''s tensors and config alone, whatever method embeds its finetunes.';
comment on column safety_bases.probes_digest is 'Of the prompts and of the depth that is read: only equal ones compare.';
comment on column safety_bases.refusal is 'float32, little-endian; so has traits, row after row.';

create table safety_requests (
    id               bigint generated always as identity primary key,
    registry         text not null,
    model_version_id bigint not null references model_versions,
    wanted           text,
    asked_by         text not null,
    asked_at         timestamptz not null default clock_timestamp(),
    state            text not null default 'asked' check (state in ('asked', 'queued', 'running', 'done', 'failed')),
    state_since      timestamptz not null default clock_timestamp(),
    heard_at         timestamptz not null default clock_timestamp(),
    progress         real not null default 0 check (progress between 0 and 1),
    flow_run_id      text,
    reason           text not null default '',
    hint             text not null default '',
    weights_digest   text,
    base_digest      text,
    probes_digest    text,
    reading          jsonb,
    seconds          double precision,
    check ((state = 'done') = (reading is not null))
);
create index safety_requests_of_version on safety_requests (model_version_id, id);
create index safety_requests_unfinished on safety_requests (id) where state in ('asked', 'queued', 'running');
create index safety_requests_of_base on safety_requests (base_digest, probes_digest) where state = 'done';
comment on column safety_requests.wanted is 'Digest of the prompts that were asked for; null once the request has ended.';
comment on column safety_requests.heard_at is 'Last sign of life of its run.';
comment on column safety_requests.reading is 'Numbers per prompt: what is judged follows from them, however it is calibrated.';

create function ask_safety(in_registry text, version bigint, prompts text, who text)
returns bigint language sql security definer set search_path = deltadex, pg_temp as $$
    insert into safety_requests (registry, model_version_id, wanted, asked_by)
    values (in_registry, version, prompts, actor(who)) returning id
$$;
revoke execute on function ask_safety from public;
comment on function ask_safety is 'By which readers may ask, too: the dashboard acts as one.';

create view current_safety as
    select distinct on (request.model_version_id) request.*, version.name
    from safety_requests request join model_versions version on version.id = request.model_version_id
    where request.state = 'done' and version.state <> 'deleted'
        and coalesce(version.weights_digest, request.weights_digest) = request.weights_digest
    order by request.model_version_id, request.id desc;
comment on view current_safety is 'The latest measurement of each version''s current weights.';
