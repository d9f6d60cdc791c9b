alter table watchers add column store_id uuid not null default gen_random_uuid();
comment on column watchers.store_id is
    'Written to MLflow too, so that another registry, or another Deltadex on the same one, is noticed.';
