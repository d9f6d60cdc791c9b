-- The geometry of a registry's embeddings, measured when its clusters are found, so that it is only read afterwards.

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
comment on column geometries.found is 'As in deltadex.geometry.Geometry.';
comment on column geometries.found_at is 'When the embeddings were read.';
comment on column geometries.revision is 'Raised by every measurement, so that readers can tell.';
create trigger geometries_announce after insert or update on geometries
    for each statement execute function announce();
