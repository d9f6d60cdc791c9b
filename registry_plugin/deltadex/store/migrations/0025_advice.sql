-- Advice: what to do for a task (reuse, prompt, merge, train), measured on examples of it by a flow.

create table advice_requests (
    id              bigint generated always as identity primary key,
    registry        text not null,
    base_name       text not null,
    examples        jsonb,
    examples_digest text not null,
    examples_count  integer not null check (examples_count > 0),
    wanted          jsonb not null,
    sees            text[] not null,
    asked_by        text not null,
    asked_at        timestamptz not null default clock_timestamp(),
    state           text not null default 'asked' check (state in ('asked', 'queued', 'running', 'done', 'failed')),
    state_since     timestamptz not null default clock_timestamp(),
    heard_at        timestamptz not null default clock_timestamp(),
    progress        real not null default 0 check (progress between 0 and 1),
    flow_run_id     text,
    reason          text not null default '',
    hint            text not null default '',
    advice          jsonb,
    seconds         double precision,
    check ((state = 'done') = (advice is not null))
);
create index advice_unfinished on advice_requests (id) where state in ('asked', 'queued', 'running');
comment on column advice_requests.examples is 'Null once the advice has ended: nothing keeps them.';
comment on column advice_requests.wanted is 'Selector, in-context examples, candidates, training and volume, as asked.';
comment on column advice_requests.sees is 'Patterns of the models that the asker may see: no other one is advised.';

create function ask_advice(
    in_registry text, base text, given jsonb, given_digest text, as_wanted jsonb, seen text[], who text
) returns bigint language sql security definer set search_path = deltadex, pg_temp as $$
    insert into advice_requests (
        registry, base_name, examples, examples_digest, examples_count, wanted, sees, asked_by)
    values (in_registry, base, given, given_digest, jsonb_array_length(given), as_wanted, seen, actor(who))
    returning id
$$;
revoke execute on function ask_advice from public;
comment on function ask_advice is 'By which readers may ask, too: the dashboard acts as one.';
