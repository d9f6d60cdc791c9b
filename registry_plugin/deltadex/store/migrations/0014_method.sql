-- The method that a registry's versions are embedded by; a store that is in use keeps the one it has.

alter table watchers add column method text not null default 'content' check (method <> '');
comment on column watchers.method is 'Name of the method that this registry''s versions are embedded by.';
insert into watchers (registry, method)
    select distinct registry, 'published' from model_versions join embeddings on model_version_id = id
    on conflict (registry) do update set method = excluded.method;
