-- Labels and drifts are judged again when a label or an alias changes.

alter table model_versions add column relabelled_at timestamptz;
comment on column model_versions.relabelled_at is
    'When its domain tag or its aliases last changed, until its label and its model''s drift are judged again; else null.';
create index model_versions_relabelled on model_versions (registry) where relabelled_at is not null;
