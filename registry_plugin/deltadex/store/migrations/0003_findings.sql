-- What is found about versions now, and the thresholds that decide it. The kinds are listed in findings/kinds.py only.

create table findings (
    id               bigint generated always as identity primary key,
    kind             text not null,
    model_version_id bigint not null references model_versions on delete cascade,
    other_id         bigint references model_versions on delete cascade,
    recipe_id        bigint references recipes,
    measure          double precision,
    threshold        double precision,
    evidence         jsonb not null default '{}',
    found_at         timestamptz not null default now(),
    measured_at      timestamptz not null default now(),
    unique nulls not distinct (kind, model_version_id, other_id),
    check (other_id <> model_version_id)
);
comment on table findings is 'What a person should look at. Those about deleted versions stay, and are not shown.';
comment on column findings.other_id is 'The older one of a pair.';
comment on column findings.recipe_id is 'The space that the measure is from; null where it rests on the weights alone.';
comment on column findings.measure is 'The number that was found; null where none is involved.';
comment on column findings.threshold is 'The threshold that it crossed, as it was set then.';
comment on column findings.measured_at is 'When it was last found to be so.';
create index findings_other on findings (other_id) where other_id is not null;
create trigger findings_announce after insert or update or delete
    on findings for each statement execute function announce();

create table calibrations (
    recipe_id bigint not null references recipes,
    registry  text not null,
    setting   jsonb not null,
    found     jsonb not null,
    seconds   double precision not null,
    found_at  timestamptz not null default clock_timestamp(),
    primary key (recipe_id, registry)
);
comment on table calibrations is 'What decides about arriving versions; found again after a hundred times as long as it took.';
comment on column calibrations.setting is 'What would decide where a recipe has too few pairs: other settings, other thresholds.';
