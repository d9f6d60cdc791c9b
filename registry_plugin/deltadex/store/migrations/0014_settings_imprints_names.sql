-- The settings that a version was trained with, what tells a merge from the adapter that was merged, and what a cluster
-- is called, by one rule for all who ask.

alter table model_versions add column training_settings jsonb not null default '{}';
comment on column model_versions.training_settings is
    'Learning rate, rank, epochs, examples and template, as its run logged them when it was embedded; what it did not log is not there.';

create table imprints (
    model_version_id bigint not null,
    recipe_id        bigint not null,
    weights_digest   text not null,
    weights          bytea not null,
    updates          bytea,
    primary key (model_version_id, recipe_id, weights_digest),
    foreign key (model_version_id, recipe_id, weights_digest) references embeddings on delete cascade
);
comment on table imprints is 'Weights at the same places of all models of a base, as little-endian float32.';
comment on column imprints.weights is 'The model''s own, under an adapter those of its base; NaN where it has none.';
comment on column imprints.updates is 'What an adapter adds to them; null for a full model.';

alter table clusters add column shown_name text not null
    generated always as (coalesce(given_name, nullif(label, ''), 'cluster ' || number + 1)) stored;
comment on column clusters.shown_name is 'What to call it: what a person said, else what Deltadex found, else its number.';
