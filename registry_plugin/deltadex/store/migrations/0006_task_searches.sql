-- Searches for a task's models by a few examples of it: asked on a page, computed by a flow, and read by anyone with the link.

create table task_searches (
    id              bigint generated always as identity primary key,
    registry        text not null,
    base_name       text not null,
    examples        jsonb,
    examples_digest text not null,
    examples_count  integer not null check (examples_count > 0),
    asked_by        text not null,
    asked_at        timestamptz not null default clock_timestamp(),
    state           text not null default 'asked' check (state in ('asked', 'queued', 'running', 'done', 'failed')),
    state_since     timestamptz not null default clock_timestamp(),
    progress        real not null default 0 check (progress between 0 and 1),
    flow_run_id     text,
    reason          text not null default '',
    hint            text not null default '',
    recipe_digest   text,
    vector          vector,
    strength        double precision,
    probe_agreement double precision,
    weakness        text not null default '',
    seconds         double precision,
    check ((state = 'done') = (vector is not null))
);
create index task_searches_unfinished on task_searches (id) where state in ('asked', 'queued', 'running');
comment on table task_searches is 'What was searched for. Which models are near is found from the vector each time.';
comment on column task_searches.examples is 'Null once the search has ended: nothing keeps them.';
comment on column task_searches.recipe_digest is 'The recipe of the vector; there may be no version under it.';
comment on column task_searches.weakness is 'Why the vector is too weak to place; empty where it is not.';

create function ask_task_search(in_registry text, base text, given jsonb, given_digest text, who text)
returns bigint language sql security definer set search_path = deltadex, pg_temp as $$
    insert into task_searches (registry, base_name, examples, examples_digest, examples_count, asked_by)
    values (in_registry, base, given, given_digest, jsonb_array_length(given), who) returning id
$$;
revoke execute on function ask_task_search from public;
comment on function ask_task_search is 'By which readers may ask, too: the dashboard acts as one.';
