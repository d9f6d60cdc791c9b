-- Each machine says what it can hold, so that a version which was too large for one is given to one that fits.

create table machines (
    registry text not null,
    name     text not null,
    limits   jsonb not null,
    seen_at  timestamptz not null default now(),
    primary key (registry, name)
);
comment on table machines is 'Machines on which a worker runs, or ran lately.';
comment on column machines.limits is 'The limit of each resource, in bytes or seconds.';

-- Whoever starts a version over, such as after giving it smaller files, has any machine try it; the watcher, which
-- resumes those that wait for a larger one, writes again what they lack.
create or replace function start_over(version_id bigint, why text, has_died boolean)
returns integer language sql security definer set search_path = deltadex, pg_temp as $$
    update model_versions
    set state = 'discovered', attempt = attempt + 1, hint = '', flow_run_id = null, heartbeat_at = null, shard_id = null,
        reason = case when may_name_actors() or has_column_privilege(session_user, 'deltadex.model_versions', 'state', 'update')
            then why else session_user || ' asked for it' end,
        deaths = case when has_died then deaths + 1 else 0 end, goes_alone = has_died, lacking = null, more_than = 0
    where id = version_id returning attempt
$$;
