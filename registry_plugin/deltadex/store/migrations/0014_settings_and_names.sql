-- The settings that a version was trained with; and what a cluster is called, by one rule for all who ask.

alter table model_versions add column training_settings jsonb not null default '{}';
comment on column model_versions.training_settings is
    'Learning rate, rank, epochs, examples and template, as its run logged them when it was embedded; what it did not log is not there.';

alter table clusters add column name text not null
    generated always as (coalesce(given_name, nullif(label, ''), 'cluster ' || number + 1)) stored;
comment on column clusters.name is 'What to call it: what a person said, else what Deltadex found, else its number.';
