-- Where versions lie on the map, computed ahead of its being looked at.

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
