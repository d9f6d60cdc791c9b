-- Replays: two versions answer the same prompts, asked before a decision about them, computed by a flow.

create table replays (
    id             bigint generated always as identity primary key,
    registry       text not null,
    keeper_id      bigint not null references model_versions,
    other_id       bigint not null references model_versions,
    prompts        jsonb,
    prompts_digest text not null,
    prompts_count  integer not null check (prompts_count > 0),
    prompts_from   text not null,
    max_new_tokens integer not null check (max_new_tokens > 0),
    asked_by       text not null,
    asked_at       timestamptz not null default clock_timestamp(),
    state          text not null default 'asked' check (state in ('asked', 'queued', 'running', 'done', 'failed')),
    state_since    timestamptz not null default clock_timestamp(),
    heard_at       timestamptz not null default clock_timestamp(),
    progress       real not null default 0 check (progress between 0 and 1),
    flow_run_id    text,
    reason         text not null default '',
    hint           text not null default '',
    keeper_digest  text,
    other_digest   text,
    agreement      jsonb,
    seconds        double precision,
    check (keeper_id <> other_id),
    check ((state = 'done') = (agreement is not null))
);
create index replays_of_pair on replays (least(keeper_id, other_id), greatest(keeper_id, other_id), id);
create index replays_unfinished on replays (id) where state in ('asked', 'queued', 'running');
comment on column replays.prompts is 'Null once the replay has ended: nothing keeps them, or what was answered.';
comment on column replays.prompts_from is 'Where the prompts came from: `file`, or the artifact of the keeper''s run.';
comment on column replays.heard_at is 'Last sign of life of its run.';
comment on column replays.keeper_digest is 'Weights that answered, as embeddings have it; so has other_digest.';

create function ask_replay(
    in_registry text, keeper bigint, other bigint, given jsonb, given_digest text, given_from text, new_tokens integer,
    who text
) returns bigint language sql security definer set search_path = deltadex, pg_temp as $$
    insert into replays (
        registry, keeper_id, other_id, prompts, prompts_digest, prompts_count, prompts_from, max_new_tokens, asked_by)
    values (
        in_registry, keeper, other, given, given_digest, jsonb_array_length(given), given_from, new_tokens, actor(who))
    returning id
$$;
revoke execute on function ask_replay from public;
comment on function ask_replay is 'By which readers may ask, too: the dashboard acts as one.';
