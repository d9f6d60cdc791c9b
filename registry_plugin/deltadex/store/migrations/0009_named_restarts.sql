-- Who has a version embedded again is said by the writer and the dashboard; for every other login it is the database user.
create or replace function start_over(version_id bigint, why text, has_died boolean)
returns integer language sql security definer set search_path = deltadex, pg_temp as $$
    update model_versions
    set state = 'discovered', attempt = attempt + 1, hint = '', flow_run_id = null, heartbeat_at = null,
        reason = case when may_name_actors() or has_column_privilege(session_user, 'deltadex.model_versions', 'state', 'update')
            then why else session_user || ' asked for it' end,
        deaths = case when has_died then deaths + 1 else 0 end
    where id = version_id returning attempt
$$;
