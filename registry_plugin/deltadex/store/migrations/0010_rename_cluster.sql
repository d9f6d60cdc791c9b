-- Who gave a cluster its name, and one function by which readers may, too: the dashboard acts as one.

alter table clusters
    add column given_by text,
    add column given_at timestamptz;
comment on column clusters.given_by is 'Who gave the name, or took it back; null before 0010.';
comment on column clusters.given_at is 'When.';

create function rename_cluster(cluster_id bigint, in_registry text, new_name text, renamed_by text)
returns bigint language plpgsql security definer set search_path = deltadex, pg_temp as $$
declare
    renamed clusters;
begin
    update clusters cluster set given_name = new_name, given_by = renamed_by, given_at = clock_timestamp()
    where cluster.id = cluster_id and cluster.registry = in_registry and not exists (
        select from clusters other where other.recipe_id = cluster.recipe_id and other.registry = cluster.registry
        and other.id <> cluster.id and other.given_name = new_name)
    returning * into renamed;
    update cluster_runs set revision = revision + 1
    where (recipe_id, registry) = (renamed.recipe_id, renamed.registry);
    return renamed.id;
end $$;
revoke execute on function rename_cluster from public;
comment on function rename_cluster is
    'Null where nothing was renamed: there is no such cluster, or another one of its recipe was given this name.';
