-- Who decides is an identity that the caller can't choose, and the log proves itself entry by entry.
-- Each entry has a digest of all that it says, its ids and the finding's state included; the chain is over these digests.
-- A comment is in its digest only as a salted hash: its text can be erased, and its proof stands.

-- Entries from before get a new place in the chain. One that was changed must not get one.
do $$
declare
    changed bigint;
begin
    select min(id) into changed from (
        select id, hash <> decision_hash(decisions)
            or previous_hash <> coalesce(lag(hash) over (order by id), '') as is_changed from decisions) entry
    where is_changed;
    if changed is not null then
        raise exception 'entry % of the decision log was changed behind its triggers', changed
            using errcode = 'check_violation', hint = 'Restore the log from a backup, then migrate.';
    end if;
end $$;
drop function decision_hash;
drop trigger decisions_stay on decisions;

alter table decisions
    drop constraint decisions_action_check,
    add constraint decisions_action_check check (
        action in ('assigned', 'released', 'accepted', 'dismissed', 'fixed', 'requested', 'approved', 'refused',
            'reopened', 'returned', 'closed', 'erased')),
    add column identity text not null default '',
    add column salt text,
    add column text_digest text,
    add column entry_digest text,
    add column former_hash text;
comment on column decisions.reviewer is 'Who decided: as the dashboard names them, else the database user.';
comment on column decisions.identity is
    'What the reviewer can''t choose: issuer and subject of a login, the user of a machine, the database user.';
comment on column decisions.request_id is 'The request that this entry answers, or the entry whose text it erased.';
comment on column decisions.salt is 'Random, so that a comment can''t be guessed from its digest; null: the text was erased.';
comment on column decisions.text_digest is 'Of salt and comment; it stays when both are erased.';
comment on column decisions.entry_digest is 'Of all that the entry says, see decision_digest().';
comment on column decisions.hash is 'Of previous_hash and entry_digest; `deltadex review verify` computes all of them again.';
comment on column decisions.former_hash is 'The entry''s hash before 0007, for heads that were noted then.';

-- Hex SHA-256 of texts as one JSON list.
create function texts_digest(variadic texts text[]) returns text language sql stable as $$
    select encode(sha256(convert_to(to_jsonb(texts)::text, 'UTF8')), 'hex')
$$;

create function decision_digest(entry decisions) returns text
language sql stable set search_path = deltadex, pg_temp as $$
    select texts_digest(
        entry.id::text, entry.review_id::text, entry.kind, entry.model_version_id::text, entry.subject,
        entry.other_id::text, entry.other_subject, (select digest from recipes where id = entry.recipe_id),
        entry.measure::text, entry.threshold::text, entry.evidence::text, entry.action, entry.status, entry.reason,
        entry.text_digest, entry.reviewer, entry.identity, entry.rule, entry.assignee, entry.request_id::text,
        entry.decided_by, to_char(entry.decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), entry.former_hash)
$$;

create function sealed_decision(entry decisions, previous text) returns decisions
language plpgsql set search_path = deltadex, pg_temp as $$
begin
    entry.salt := gen_random_uuid()::text || gen_random_uuid()::text;
    entry.text_digest := texts_digest(entry.salt, entry.comment);
    entry.previous_hash := previous;
    entry.entry_digest := decision_digest(entry);
    entry.hash := texts_digest(previous, entry.entry_digest);
    return entry;
end $$;

create or replace function chain_decision() returns trigger
language plpgsql set search_path = deltadex, pg_temp as $$
begin
    -- One entry at a time, until its transaction ends: ids are then in the order of the chain.
    perform pg_advisory_xact_lock(hashtextextended('deltadex decisions', 0));
    new.id := nextval(pg_get_serial_sequence('decisions', 'id'));
    new.subject := coalesce(nullif(new.subject, ''), version_subject(new.model_version_id));
    new.other_subject := coalesce(new.other_subject, version_subject(new.other_id));
    return sealed_decision(new, coalesce((select hash from decisions order by id desc limit 1), ''));
end $$;

do $$
declare
    entry decisions;
    previous text := '';
begin
    for entry in select * from decisions order by id loop
        entry.former_hash := entry.hash;
        entry := sealed_decision(entry, previous);
        update decisions set former_hash = entry.former_hash, salt = entry.salt, text_digest = entry.text_digest,
            previous_hash = entry.previous_hash, entry_digest = entry.entry_digest, hash = entry.hash
        where id = entry.id;
        previous := entry.hash;
    end loop;
end $$;
alter table decisions
    alter column text_digest set not null,
    alter column entry_digest set not null,
    drop constraint decisions_check1,
    add constraint decisions_comment_check check (
        action in ('assigned', 'released', 'returned', 'closed') or btrim(comment) <> '' or salt is null);

create function refuse_rewrite() returns trigger language plpgsql set search_path = deltadex, pg_temp as $$
begin
    if new.comment = '' and new.salt is null
        and to_jsonb(new) - '{comment,salt}'::text[] = to_jsonb(old) - '{comment,salt}'::text[]
        and exists (select from decisions where action = 'erased' and request_id = old.id) then
        return new;
    end if;
    raise exception 'update in decisions is refused'
        using errcode = 'check_violation', hint = 'Decide again instead: the latest decision counts.';
end $$;
create trigger decisions_stay before delete or truncate on decisions
    for each statement execute function refuse_change('Decide again instead: the latest decision counts.');
create trigger decisions_keep before update on decisions for each row execute function refuse_rewrite();

create function may_name_actors() returns boolean language sql stable set search_path = deltadex, pg_temp as $$
    -- The owner of the tables could write anything; a superuser is a member of every role.
    select bool_or(pg_has_role(session_user, oid, 'member')) from pg_roles
    where rolname = 'deltadex_dashboard' or oid = (select relowner from pg_class where oid = 'decisions'::regclass)
$$;
comment on function may_name_actors is
    'Whether this login may say who decides: the dashboard''s, which has verified it. Everyone else is who they logged in as.';

create function actor(named text) returns text language sql stable set search_path = deltadex, pg_temp as $$
    select case when may_name_actors() then named else session_user::text end
$$;

drop function record_decision;
create function record_decision(
    review_id bigint, seen integer, action text, reason text, comment text, reviewer text,
    rule text default '', assignee text default null, due_at timestamptz default null, identity text default ''
) returns bigint language plpgsql security definer set search_path = deltadex, pg_temp as $$
#variable_conflict use_column
declare
    review   reviews;
    request  decisions;
    who      text := actor(record_decision.reviewer);
    known_as text := actor(coalesce(nullif(record_decision.identity, ''), record_decision.reviewer));
    after    text;
    entry_id bigint;
    is_undecided boolean;
    is_measuring boolean := has_any_column_privilege(session_user, 'deltadex.reviews', 'update');
begin
    -- Before the row is read: what waits here must not decide on what it saw before it waited. Measurements wait too.
    perform pg_advisory_xact_lock(hashtextextended('deltadex decisions', 0));
    select * into review from reviews where id = review_id for update;
    if review.id is null then
        raise exception 'there is no finding under review with id %', review_id using errcode = 'no_data_found';
    elsif review.revision <> seen then
        raise exception 'finding % is not what you saw any more', review_id using errcode = 'DX001';
    end if;
    if record_decision.action in ('returned', 'closed') or record_decision.rule <> '' then
        if not is_measuring then
            raise exception 'permission denied: only measurements have a finding %', record_decision.action
                using errcode = 'insufficient_privilege';
        end if;
        -- These follow from settings and numbers: in the name of the rule's author, or of nobody.
        who := case when record_decision.rule <> '' then record_decision.reviewer else 'deltadex' end;
        known_as := session_user;
    end if;
    select * into request from decisions where id = review.request_id;
    is_undecided := review.status in ('open', 'in_review');
    after := case record_decision.action
        when 'assigned' then case when is_undecided then 'in_review' when review.status = 'accepted' then 'accepted' end
        when 'released' then case when is_undecided then 'open' when review.status = 'accepted' then 'accepted' end
        when 'accepted' then case when is_undecided then 'accepted' end
        when 'dismissed' then case when is_undecided then 'dismissed' end
        when 'fixed' then case when is_undecided or review.status = 'accepted' then 'fixed' end
        when 'requested' then case when is_undecided then 'in_review' end
        when 'approved' then case when review.status = 'in_review' and request.id is not null then 'accepted' end
        when 'refused' then case when review.status = 'in_review' and request.id is not null then 'in_review' end
        when 'reopened' then case when not is_undecided then 'open' end
        when 'returned' then case when review.status in ('dismissed', 'fixed') then 'open' end
        when 'closed' then case when is_undecided or review.status = 'accepted' then 'fixed' end
    end;
    if after is null then
        raise exception 'a finding that is % can''t be %', review.status, record_decision.action
            using errcode = 'check_violation', hint = 'See docs/reviews.md.';
    elsif request.id is not null and record_decision.action not in ('assigned', 'approved', 'refused', 'closed') then
        raise exception 'a request by % waits for approval', request.reviewer using errcode = 'check_violation';
    elsif record_decision.action = 'approved' and (request.reviewer = who or request.identity = known_as) then
        raise exception '% can''t approve their own request', request.reviewer
            using errcode = 'check_violation', hint = 'Ask a second person.';
    elsif record_decision.action = 'accepted' and record_decision.reason = 'retire' then
        raise exception 'what retires a model needs a second person' using errcode = 'check_violation';
    end if;

    insert into decisions (review_id, kind, model_version_id, other_id, recipe_id, measure, threshold, evidence, action,
        status, reason, comment, reviewer, identity, rule, assignee, request_id)
    values (review.id, review.kind, review.model_version_id, review.other_id, review.recipe_id, review.measure,
        review.threshold, review.evidence, record_decision.action, after, case when record_decision.action in
        ('approved', 'refused') then request.reason else record_decision.reason end, record_decision.comment, who, known_as,
        record_decision.rule, case when record_decision.action = 'assigned' then coalesce(record_decision.assignee, '') else ''
        end, case when record_decision.action in ('approved', 'refused', 'closed') then request.id end)
    returning id into entry_id;

    update reviews set
        decision_id = entry_id,
        status = after,
        status_since = case when after = review.status then review.status_since else clock_timestamp() end,
        assignee = case record_decision.action when 'assigned' then coalesce(record_decision.assignee, '')
            when 'released' then '' else review.assignee end,
        due_at = coalesce(record_decision.due_at, review.due_at),
        request_id = case record_decision.action when 'requested' then entry_id when 'assigned' then review.request_id end,
        decided_measure = case when after = review.status then review.decided_measure
            when after in ('accepted', 'dismissed', 'fixed') then review.measure end,
        decided_cause = case when after = review.status then review.decided_cause
            when after in ('accepted', 'dismissed', 'fixed') then coalesce(review.evidence ->> 'reason', '') end
    where id = review_id;
    return entry_id;
end $$;
revoke execute on function record_decision from public;
comment on function record_decision is
    'The one way to change what people made of a finding. For whom it decides, see may_name_actors().';

create function erase_text(entry_id bigint, who text, known_as text, why text) returns bigint
language plpgsql security definer set search_path = deltadex, pg_temp as $$
declare
    entry     decisions;
    erased_id bigint;
begin
    perform pg_advisory_xact_lock(hashtextextended('deltadex decisions', 0));
    select * into entry from decisions where id = entry_id;
    if entry.id is null then
        raise exception 'there is no entry % in the log', entry_id using errcode = 'no_data_found';
    elsif entry.salt is null then
        raise exception 'the text of entry % is erased already', entry_id using errcode = 'check_violation';
    end if;
    insert into decisions (review_id, kind, model_version_id, other_id, recipe_id, measure, threshold, evidence, action,
        status, reason, comment, reviewer, identity, request_id)
    select id, kind, model_version_id, other_id, recipe_id, measure, threshold, evidence, 'erased',
        status, '', why, actor(who), actor(coalesce(nullif(known_as, ''), who)), entry_id
    from reviews where id = entry.review_id
    returning id into erased_id;
    update decisions set comment = '', salt = null where id = entry_id;
    return erased_id;
end $$;
revoke execute on function erase_text from public;
comment on function erase_text is
    'Erases the comment of an entry for good and adds an entry that says so; returns its id. No finding changes by it.';

create or replace function rename_cluster(cluster_id bigint, in_registry text, new_name text, renamed_by text)
returns bigint language plpgsql security definer set search_path = deltadex, pg_temp as $$
declare
    renamed clusters;
begin
    update clusters cluster set given_name = new_name, given_by = actor(renamed_by), given_at = clock_timestamp()
    where cluster.id = cluster_id and cluster.registry = in_registry and not exists (
        select from clusters other where other.recipe_id = cluster.recipe_id and other.registry = cluster.registry
        and other.id <> cluster.id and other.given_name = new_name)
    returning * into renamed;
    update cluster_runs set revision = revision + 1
    where (recipe_id, registry) = (renamed.recipe_id, renamed.registry);
    return renamed.id;
end $$;

create or replace function ask_task_search(in_registry text, base text, given jsonb, given_digest text, who text)
returns bigint language sql security definer set search_path = deltadex, pg_temp as $$
    insert into task_searches (registry, base_name, examples, examples_digest, examples_count, asked_by)
    values (in_registry, base, given, given_digest, jsonb_array_length(given), actor(who)) returning id
$$;
