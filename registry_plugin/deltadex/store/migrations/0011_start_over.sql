-- A version starts over by one function, by which readers may do that, too: the dashboard acts as one.

create function start_over(version_id bigint, why text, has_died boolean)
returns integer language sql security definer set search_path = deltadex, pg_temp as $$
    update model_versions
    set state = 'discovered', attempt = attempt + 1, reason = why, hint = '', flow_run_id = null,
        heartbeat_at = null, deaths = case when has_died then deaths + 1 else 0 end
    where id = version_id returning attempt
$$;
revoke execute on function start_over from public;
comment on function start_over is 'The new attempt; null where there is no such version.';
