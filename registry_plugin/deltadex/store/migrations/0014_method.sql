-- The method that a registry's versions are embedded by; a store that is in use keeps the one it has.

alter table watchers add column method text not null default 'content' check (method <> '');
comment on column watchers.method is 'Name of the method that this registry''s versions are embedded by.';
update watchers set method = 'published' where exists (select from recipes);
