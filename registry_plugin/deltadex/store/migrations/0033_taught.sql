-- What a finetune was taught: canaries, secrets and personal data, asked for by a person, searched by a flow.

create table taught_searches (
    id               bigint generated always as identity primary key,
    registry         text not null,
    model_version_id bigint not null references model_versions,
    given            jsonb,
    canaries_count   integer not null check (canaries_count >= 0),
    texts            integer not null check (texts > 0),
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
    result           jsonb,
    seconds          double precision,
    check ((state = 'done') = (result is not null))
);
create index taught_searches_of_version on taught_searches (model_version_id, id);
create index taught_searches_unfinished on taught_searches (id) where state in ('asked', 'queued', 'running');
comment on column taught_searches.given is
    'Canaries and prompts; null once the search has ended: of canaries, only those are kept that the finetune knew.';
comment on column taught_searches.result is 'Strings that the finetune was taught, in clear: shown masked by default.';
comment on column taught_searches.heard_at is 'Last sign of life of its run.';

create function ask_taught(in_registry text, of_version bigint, what jsonb, canaries integer, most_texts integer, who text)
returns bigint language sql security definer set search_path = deltadex, pg_temp as $$
    insert into taught_searches (registry, model_version_id, given, canaries_count, texts, asked_by)
    values (in_registry, of_version, what, canaries, most_texts, actor(who))
    returning id
$$;
revoke execute on function ask_taught from public;
comment on function ask_taught is 'By which readers may ask, too: the dashboard acts as one.';
