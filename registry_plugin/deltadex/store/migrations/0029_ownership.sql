-- Registered models: their tags that say who owns them and how much depends on them, and what people say instead.

create table registered_models (
    id          bigint generated always as identity primary key,
    registry    text not null,
    name        text not null,
    created_ms  bigint,
    is_gone     boolean not null default false,
    tags        jsonb not null default '{}',
    tag_owner   text,
    tag_tier    text check (tag_tier in ('high', 'medium', 'low')),
    stated      jsonb not null default '{}',
    owner       text generated always as (coalesce(stated ->> 'owner', tag_owner)) stored,
    tier        text generated always as (coalesce(stated ->> 'tier', tag_tier)) stored,
    attested_id bigint,
    tagged_id   bigint not null default 0,
    revision    integer not null default 1,
    -- The function below may be called past the library: what it stores must be readable.
    check (tier in ('high', 'medium', 'low')),
    check (stated ->> 'review_by' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' and pg_input_is_valid(stated ->> 'review_by', 'date')),
    check (length(stated ->> 'owner') <= 200 and length(stated ->> 'intended_use') <= 2000)
);
create unique index registered_models_name on registered_models (registry, name) where not is_gone;
comment on column registered_models.created_ms is
    'When it was created in MLflow; a model of the same name with another time is another model. Null until a comparison.';
comment on column registered_models.tags is 'Tags named in the settings, as the latest comparison with the registry saw them.';
comment on column registered_models.tag_owner is 'The owner by the tags; tag_tier is the tier by the tags.';
comment on column registered_models.stated is 'What people said, by field; it wins over the tags. Follows from ownership_entries.';
comment on column registered_models.attested_id is 'The latest attestation among ownership_entries.';
comment on column registered_models.tagged_id is 'The latest entry that the tags in MLflow tell of.';

create function note_model_change() returns trigger language plpgsql as $$
begin
    new.revision := old.revision + 1;
    return new;
end $$;
create trigger registered_models_change before update of name, is_gone, tags, tag_owner, tag_tier, stated, attested_id
    on registered_models for each row execute function note_model_change();
create trigger registered_models_announce after insert or update of name, is_gone, tags, stated, attested_id
    on registered_models for each statement execute function announce();
create trigger registered_models_stay before delete or truncate on registered_models
    for each statement execute function refuse_change('A model that is gone stays, with its history.');

create table ownership_entries (
    id            bigint generated always as identity primary key,
    model_id      bigint not null references registered_models,
    subject       text not null,
    field         text not null check (field in ('owner', 'tier', 'intended_use', 'review_by', 'attestation')),
    former        text,
    stated        text,
    statement     jsonb not null default '{}',
    person        text not null check (btrim(person) <> ''),
    identity      text not null,
    recorded_by   text not null default session_user,
    recorded_at   timestamptz not null default clock_timestamp(),
    previous_hash text not null unique,
    hash          text not null unique,
    check (field <> 'attestation' or coalesce(
        statement ->> 'tier' in ('high', 'medium', 'low') and jsonb_typeof(statement -> 'owner') = 'string'
        and jsonb_typeof(statement -> 'intended_use') = 'string', false))
);
create index ownership_entries_model on ownership_entries (model_id, id);
alter table registered_models add foreign key (attested_id) references ownership_entries deferrable;
comment on table ownership_entries is
    'Append-only: who changed what about a registered model, when, from what to what; and attestations. '
    'Each has the hash of the one before.';
comment on column ownership_entries.subject is 'registry:name, as it was called then.';
comment on column ownership_entries.former is 'What people had said before; null: nothing, the tag applied. So has stated.';
comment on column ownership_entries.statement is 'Of an attestation: what was attested.';
comment on column ownership_entries.identity is 'What the person can''t choose, as in decisions.';

create function ownership_digest(entry ownership_entries) returns text
language sql stable set search_path = deltadex, pg_temp as $$
    select texts_digest(
        entry.previous_hash, entry.id::text, entry.model_id::text, entry.subject, entry.field, entry.former, entry.stated,
        entry.statement::text, entry.person, entry.identity, entry.recorded_by,
        to_char(entry.recorded_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'))
$$;

create function chain_ownership() returns trigger language plpgsql set search_path = deltadex, pg_temp as $$
begin
    -- One entry at a time, until its transaction ends: ids are then in the order of the chain.
    perform pg_advisory_xact_lock(hashtextextended('deltadex ownership', 0));
    new.id := nextval(pg_get_serial_sequence('ownership_entries', 'id'));
    new.previous_hash := coalesce((select hash from ownership_entries order by id desc limit 1), '');
    new.hash := ownership_digest(new);
    return new;
end $$;
create trigger ownership_entries_chain before insert on ownership_entries
    for each row execute function chain_ownership();
create trigger ownership_entries_stay before update or delete or truncate on ownership_entries
    for each statement execute function refuse_change('Edit again instead: the latest entry counts.');

create function record_ownership(
    in_registry text, model text, what text, was text, says text, attested jsonb, who text, known_as text
) returns bigint language plpgsql security definer set search_path = deltadex, pg_temp as $$
declare
    known    registered_models;
    entry_id bigint;
begin
    -- Before the row is read: what waits here must not change what it did not see.
    perform pg_advisory_xact_lock(hashtextextended('deltadex ownership', 0));
    if not exists (select from model_versions where (registry, name) = (in_registry, model) and state <> 'deleted') then
        raise exception 'there is no registered model %', model using errcode = 'no_data_found';
    end if;
    insert into registered_models (registry, name) values (in_registry, model)
    on conflict (registry, name) where not is_gone do nothing;
    select * into known from registered_models where (registry, name) = (in_registry, model) and not is_gone for update;
    if what <> 'attestation' and known.stated ->> what is distinct from was then
        raise exception 'the % of % is not what you saw any more', what, model using errcode = 'DX001';
    end if;
    insert into ownership_entries (model_id, subject, field, former, stated, statement, person, identity)
    values (known.id, format('%s:%s', in_registry, model), what, case when what <> 'attestation' then was end, says,
        attested, actor(who), actor(coalesce(nullif(known_as, ''), who)))
    returning id into entry_id;
    update registered_models set
        stated = case when what = 'attestation' then known.stated when says is null then known.stated - what
            else known.stated || jsonb_build_object(what, says) end,
        attested_id = case when what = 'attestation' then entry_id else known.attested_id end
    where id = known.id;
    return entry_id;
end $$;
revoke execute on function record_ownership from public;
comment on function record_ownership is
    'The one way to change what people say of a registered model. For whom it speaks, see may_name_actors().';
