-- Labels are judged again when one of them changes.

alter table model_versions add column labelled_at timestamptz;
comment on column model_versions.labelled_at is 'When the domain tag last changed after registration; null: never.';
