-- What all workers have done together, for monitoring: sums, not rows per version.

create table work_done (
    registry text not null,
    kind     text not null check (kind in ('step', 'error')),
    name     text not null,
    count    bigint not null,
    seconds  double precision not null default 0,
    bytes    bigint not null default 0,
    primary key (registry, kind, name)
);
comment on table work_done is 'Steps and errors of all flow runs since the tables were made, for monitoring.';
comment on column work_done.name is 'Name of the step, or class of the error.';
comment on column work_done.bytes is 'Size of the weights that a step read.';
