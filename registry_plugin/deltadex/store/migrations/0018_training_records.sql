-- What runs logged, kept with the embedding: runs are mutable.

create table training_records (
    model_version_id bigint primary key references model_versions,
    logged           jsonb not null
);
comment on table training_records is 'What a version''s run had logged when the version was embedded.';
comment on column training_records.logged is '{"data": {name: value}, "code": {…}, "parameters": {…}}, all of them text.';
