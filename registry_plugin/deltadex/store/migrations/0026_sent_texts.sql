-- Requests to an endpoint outside: logged before they are sent, never changed. The texts themselves are not kept.

create table sent_texts (
    id         bigint generated always as identity primary key,
    registry   text not null,
    sent_at    timestamptz not null default clock_timestamp(),
    sent_by    text not null,
    host       text not null,
    model      text not null,
    purpose    text not null,
    digest     text not null check (digest ~ '^[0-9a-f]{64}$'),
    size_bytes bigint not null check (size_bytes > 0)
);
create index sent_texts_newest on sent_texts (registry, id desc);
comment on table sent_texts is 'What left the house: one row per request to the endpoint of the settings.';
comment on column sent_texts.digest is 'SHA-256 of the exact body of the request; so has size_bytes.';

create trigger sent_texts_stay before update or delete or truncate on sent_texts
    for each statement execute function refuse_change('What was sent stays in the log.');

create function record_sent_text(
    in_registry text, to_host text, to_model text, what_for text, body_digest text, body_bytes bigint, who text
) returns void language sql security definer set search_path = deltadex, pg_temp as $$
    insert into sent_texts (registry, sent_by, host, model, purpose, digest, size_bytes)
    values (in_registry, actor(who), to_host, to_model, what_for, body_digest, body_bytes)
$$;
revoke execute on function record_sent_text from public;
comment on function record_sent_text is 'By which readers may log, too: the dashboard acts as one.';
