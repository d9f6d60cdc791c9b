-- Heads of the decision log that were published to witnesses outside this database.

create table witnesses (
    registry      text not null,
    name          text not null,
    entries       bigint check (entries > 0),
    hash          text check (hash ~ '^[0-9a-f]{64}$'),
    published_at  timestamptz,
    attempts      integer not null default 0 check (attempts >= 0),
    tried_at      timestamptz,
    error         text not null default '',
    caution       text not null default '',
    asked_at      timestamptz,
    contradiction text not null default '',
    primary key (registry, name),
    check ((entries is null) = (hash is null) and (hash is null) = (published_at is null))
);
comment on table witnesses is
    'What was last published to each witness of the settings. It proves nothing: the proof is what the witness holds.';
comment on column witnesses.name is 'Its address without user, password and options.';
comment on column witnesses.attempts is 'Failed attempts since the last publication.';
comment on column witnesses.contradiction is 'How the log differed from what the witness held, at asked_at; empty: it did not.';

create table time_stamps (
    id         bigint generated always as identity primary key,
    registry   text not null,
    authority  text not null,
    entries    bigint not null check (entries > 0),
    hash       text not null check (hash ~ '^[0-9a-f]{64}$'),
    stamped_at timestamptz not null,
    answer     text not null
);
comment on table time_stamps is 'Answers of authorities (RFC 3161, base64) over a head: see deltadex.witness.head.';

create trigger time_stamps_stay before update or delete or truncate on time_stamps
    for each statement execute function refuse_change('Time stamps are kept as they were given.');
