-- Samples of the weights by which the lineage of versions is measured.

create table lineage_sketches (
    model_version_id bigint not null,
    recipe_id        bigint not null,
    weights_digest   text not null,
    layout           text not null,
    sketch           bytea not null,
    coarse           bytea not null,
    primary key (model_version_id, recipe_id, weights_digest),
    foreign key (model_version_id, recipe_id, weights_digest) references embeddings on delete cascade
);
alter table lineage_sketches alter column sketch set storage external, alter column coarse set storage external;
create index lineage_sketches_of_layout on lineage_sketches (layout);
comment on table lineage_sketches is
    'Weights at the same places of all models with equal matrices, whatever their base: they tell parents from strangers.';
comment on column lineage_sketches.layout is 'Hex SHA-256 of the names and shapes of the matrices: only those of one layout compare.';
comment on column lineage_sketches.coarse is 'An eighth of it, read of all versions to choose those that are compared in full.';
