-- Clusters of each recipe in a registry, places on the map, and the geometry that is measured with them.

create table clusters (
    id           bigint generated always as identity primary key,
    recipe_id    bigint not null references recipes,
    registry     text not null,
    number       integer not null check (number >= 0),
    label        text not null default '',
    label_origin text not null default '',
    terms        jsonb not null default '[]',
    given_name   text check (btrim(given_name) <> ''),
    given_by     text,
    given_at     timestamptz,
    shown_name   text not null
        generated always as (coalesce(given_name, nullif(label, ''), 'cluster ' || number + 1)) stored,
    centre       vector,
    found_at     timestamptz not null default now(),
    unique (recipe_id, registry, number),
    unique (id, recipe_id)
);
comment on table clusters is 'The clusters of a recipe in a registry; a row lasts for as long as later runs continue it.';
comment on column clusters.number is 'Small and never changed, for colours; free again when the cluster is gone.';
comment on column clusters.label is 'The name that Deltadex found.';
comment on column clusters.label_origin is 'What the label rests on.';
comment on column clusters.terms is '[[text, origin, members, weight], …]: what is over-represented, from which labels are made.';
comment on column clusters.given_name is 'The name that a person gave, which goes before the label.';
comment on column clusters.given_by is 'Who gave the name, or took it back.';
comment on column clusters.given_at is 'When.';
comment on column clusters.shown_name is 'What to call it: what a person said, else what Deltadex found, else its number.';
comment on column clusters.centre is
    'Mean of the members'' unit vectors: its scalar product with one is a mean cosine similarity.';
comment on column clusters.found_at is 'When it was found first.';
create unique index clusters_given_name on clusters (recipe_id, registry, given_name);

create table cluster_assignments (
    recipe_id        bigint not null,
    model_version_id bigint not null references model_versions,
    cluster_id       bigint,
    strength         double precision check ((strength is null) = (cluster_id is null)),
    primary key (recipe_id, model_version_id),
    foreign key (cluster_id, recipe_id) references clusters (id, recipe_id) on delete cascade
);
comment on table cluster_assignments is 'Where the latest run placed each version that it compared.';
comment on column cluster_assignments.cluster_id is 'Null: an outlier, like no other.';
comment on column cluster_assignments.strength is 'Mean cosine similarity with the other members.';
create index cluster_assignments_cluster on cluster_assignments (cluster_id);

create table cluster_runs (
    recipe_id  bigint not null references recipes,
    registry   text not null,
    method     jsonb not null,
    cut        double precision not null,
    silhouette double precision,
    note       text not null default '',
    found_at   timestamptz not null,
    revision   integer not null default 1,
    primary key (recipe_id, registry)
);
comment on table cluster_runs is 'The latest clustering of a recipe in a registry.';
comment on column cluster_runs.method is 'Algorithm and parameters; another one makes a new run due.';
comment on column cluster_runs.cut is 'Mean cosine similarity at which clusters were joined.';
comment on column cluster_runs.silhouette is 'Mean silhouette at the cut; null with fewer than two clusters.';
comment on column cluster_runs.note is 'Why there are no clusters, or why the versions were not divided.';
comment on column cluster_runs.found_at is 'When the embeddings were read.';
comment on column cluster_runs.revision is 'Raised by every run and every renaming, so that readers can tell.';
create trigger cluster_runs_announce after insert or update on cluster_runs
    for each statement execute function announce();

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
    'By which readers may name a cluster, too: the dashboard acts as one. '
    'Null where nothing was renamed: there is no such cluster, or another one of its recipe was given this name.';

create table layouts (
    recipe_id        bigint not null references recipes,
    model_version_id bigint not null references model_versions,
    weights_digest   text not null,
    x                real not null,
    y                real not null,
    primary key (recipe_id, model_version_id)
);
comment on table layouts is 'Places on the map of a recipe. Distances between them are not distances between models.';
comment on column layouts.weights_digest is 'Of the embedding that was placed; another one is not placed yet.';

create table geometries (
    recipe_id bigint not null references recipes,
    registry  text not null,
    method    jsonb not null,
    versions  integer not null check (versions >= 0),
    found     jsonb not null,
    found_at  timestamptz not null,
    revision  integer not null default 1,
    primary key (recipe_id, registry)
);
comment on table geometries is 'What the geometry of a recipe''s embeddings in a registry was, the last time that it was measured.';
comment on column geometries.method is 'Seed and thresholds; others make a new measurement due.';
comment on column geometries.versions is 'How many embeddings were read.';
comment on column geometries.found is 'As in deltadex.geometry.measure.Geometry.';
comment on column geometries.found_at is 'When the embeddings were read.';
comment on column geometries.revision is 'Raised by every measurement, so that readers can tell.';
create trigger geometries_announce after insert or update on geometries
    for each statement execute function announce();
