-- Clusters live on from run to run: what the latest run was, how strongly versions belong, the names that people gave.
-- Nothing wrote to these tables before.

truncate cluster_assignments, clusters;

alter table clusters
    drop column method,
    add column label_origin text not null default '',
    add column given_name text check (btrim(given_name) <> ''),
    add column centre vector;
create unique index clusters_given_name on clusters (recipe_id, registry, given_name);
comment on table clusters is 'The clusters of a recipe in a registry; a row lasts for as long as later runs continue it.';
comment on column clusters.number is 'Small and never changed, for colours; free again when the cluster is gone.';
comment on column clusters.label is 'The name that Deltadex found.';
comment on column clusters.label_origin is 'What the label rests on.';
comment on column clusters.given_name is 'The name that a person gave, which goes before the label.';
comment on column clusters.centre is 
    'Mean of the members'' unit vectors: its scalar product with one is a mean cosine similarity.';
comment on column clusters.found_at is 'When it was found first.';

alter table cluster_assignments
    alter column cluster_id drop not null,
    add column strength double precision check ((strength is null) = (cluster_id is null));
comment on table cluster_assignments is 'Where the latest run placed each version that it compared.';
comment on column cluster_assignments.cluster_id is 'Null: an outlier, like no other.';
comment on column cluster_assignments.strength is 'Mean cosine similarity with the other members.';

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
