-- Versions that wait for a machine with more of something, and how far a recipe's numbers can be trusted.

alter table model_versions drop constraint model_versions_state_check;
alter table model_versions add constraint model_versions_state_check check (
    state in ('discovered', 'queued', 'running', 'waiting', 'embedded', 'unsupported', 'failed', 'deleted'));

alter table model_versions
    add column deaths    integer not null default 0 check (deaths >= 0),
    add column lacking   text check (lacking in ('memory', 'disk', 'time')),
    add column more_than double precision not null default 0,
    add check (state <> 'waiting' or lacking is not null);
comment on column model_versions.deaths is 'Runs in a row that ended without saying why; the state history has the rest.';
comment on column model_versions.lacking is 'What a waiting version needs more of than it was given.';
comment on column model_versions.more_than is 'In bytes or seconds: what was not enough.';

alter table recipes add column noise_floor double precision check (noise_floor >= 0);
comment on column recipes.noise_floor is
    'Largest shift of the base''s own states between machines and batch shapes, as a share of their norm; null: never measured.';
