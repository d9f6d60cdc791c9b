-- What people make of findings, the log of it, where each entry carries the SHA-256 of the one before, and notifications.
-- The state machine is reviews/lifecycle.py; it is here too, for whatever goes past that.

create table decisions (
    id               bigint generated always as identity primary key,
    review_id        bigint not null,
    kind             text not null,
    model_version_id bigint not null references model_versions,
    other_id         bigint references model_versions,
    subject          text not null default '',
    other_subject    text,
    recipe_id        bigint references recipes,
    measure          double precision,
    threshold        double precision,
    evidence         jsonb not null,
    action           text not null check (
        action in ('assigned', 'released', 'accepted', 'dismissed', 'fixed', 'requested', 'approved', 'refused',
            'reopened', 'returned', 'closed')),
    status           text not null check (status in ('open', 'in_review', 'accepted', 'dismissed', 'fixed')),
    reason           text not null,
    comment          text not null,
    reviewer         text not null check (btrim(reviewer) <> ''),
    rule             text not null default '',
    assignee         text not null default '',
    request_id       bigint references decisions,
    decided_by       text not null default session_user,
    decided_at       timestamptz not null default clock_timestamp(),
    previous_hash    text not null unique,
    hash             text not null unique,
    check (other_id <> model_version_id),
    check (action in ('assigned', 'released', 'returned', 'closed') or btrim(comment) <> '')
);
comment on table decisions is
    'Append-only: who did what about a finding, when, and on which numbers. What it comes to is in reviews.';
comment on column decisions.review_id is 'The finding that it is about.';
comment on column decisions.subject is 'registry:name/version@creation time, as it was called then.';
comment on column decisions.status is 'Where the finding stood after it.';
comment on column decisions.reason is 'One of reviews/reasons.py; empty for what needs none.';
comment on column decisions.reviewer is 'Who decided, by the word of the program that asked.';
comment on column decisions.rule is 'The delegated rule that decided in the reviewer''s name.';
comment on column decisions.assignee is 'Whom it was given to.';
comment on column decisions.request_id is 'The request that this entry answers.';
comment on column decisions.decided_by is 'The database user of that program.';
comment on column decisions.previous_hash is 'Hash of the entry before; empty for the first. No two follow the same.';
comment on column decisions.hash is 'Hex SHA-256, see decision_hash(); `deltadex review verify` computes all of them again.';
create index decisions_review on decisions (review_id, id);

create table reviews (
    id               bigint generated always as identity primary key,
    kind             text not null,
    model_version_id bigint not null references model_versions,
    other_id         bigint references model_versions,
    recipe_id        bigint references recipes,
    measure          double precision,
    threshold        double precision,
    evidence         jsonb not null default '{}',
    severity         text not null check (severity in ('high', 'medium', 'low')),
    is_found         boolean not null default true,
    first_seen       timestamptz not null default now(),
    last_measured    timestamptz not null default now(),
    status           text not null default 'open' check (
        status in ('open', 'in_review', 'accepted', 'dismissed', 'fixed')),
    status_since     timestamptz not null default now(),
    assignee         text not null default '',
    due_at           timestamptz not null,
    request_id       bigint references decisions deferrable,
    decided_measure  double precision,
    decided_cause    text,
    decision_id      bigint references decisions deferrable,
    tagged_id        bigint references decisions deferrable,
    revision         integer not null default 1,
    unique nulls not distinct (kind, model_version_id, other_id),
    check (other_id <> model_version_id)
);
alter table decisions add foreign key (review_id) references reviews;
comment on table reviews is 'A finding for good: its kind and versions, whether it is found now, and what people made of it.';
comment on column reviews.measure is 'The last number; it stays when the finding goes.';
comment on column reviews.is_found is 'Whether findings has it, about versions that are not deleted.';
comment on column reviews.request_id is 'The entry that waits for a second person.';
comment on column reviews.decided_measure is 'The number that the present decision rests on.';
comment on column reviews.decided_cause is 'The words that it rests on; null where nothing is decided.';
comment on column reviews.decision_id is 'The latest entry of the log about it.';
comment on column reviews.tagged_id is 'The latest entry that the tags in MLflow tell of.';
create index reviews_other on reviews (other_id) where other_id is not null;
create index reviews_untagged on reviews (id) where decision_id is distinct from tagged_id;

create function decision_hash(entry decisions) returns text
language sql stable set search_path = deltadex, pg_temp as $$
    select encode(sha256(convert_to(jsonb_build_array(
        entry.previous_hash, entry.kind, entry.subject, entry.other_subject,
        (select digest from recipes where id = entry.recipe_id),
        entry.measure::text, entry.threshold::text, entry.evidence::text,
        entry.action, entry.status, entry.reason, entry.comment, entry.reviewer, entry.rule, entry.assignee,
        (select hash from decisions where id = entry.request_id),
        entry.decided_by, to_char(entry.decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')
    )::text, 'UTF8')), 'hex')
$$;
comment on function decision_hash is
    'Over the names that versions had then, and no ids: entries copied in order to another database keep their hashes.';

create function version_subject(version_id bigint) returns text
language sql stable set search_path = deltadex, pg_temp as $$
    select format('%s:%s/%s@%s', registry, name, version, created_ms) from model_versions where id = version_id
$$;

create function chain_decision() returns trigger language plpgsql set search_path = deltadex, pg_temp as $$
begin
    -- One entry at a time, until its transaction ends: ids are then in the order of the chain.
    perform pg_advisory_xact_lock(hashtextextended('deltadex decisions', 0));
    new.id := nextval(pg_get_serial_sequence('decisions', 'id'));
    new.subject := coalesce(nullif(new.subject, ''), version_subject(new.model_version_id));
    new.other_subject := coalesce(new.other_subject, version_subject(new.other_id));
    new.previous_hash := coalesce((select hash from decisions order by id desc limit 1), '');
    new.hash := decision_hash(new);
    return new;
end $$;
create trigger decisions_chain before insert on decisions for each row execute function chain_decision();
create trigger decisions_stay before update or delete or truncate on decisions
    for each statement execute function refuse_change('Decide again instead: the latest decision counts.');

create function note_review_change() returns trigger language plpgsql as $$
begin
    new.revision := old.revision + 1;
    return new;
end $$;
create trigger reviews_change before update of measure, threshold, evidence, severity, is_found, decision_id
    on reviews for each row execute function note_review_change();
create trigger reviews_stay before delete or truncate on reviews
    for each statement execute function refuse_change('A finding that is no longer found stays, as fixed.');
create trigger reviews_announce after insert or update of measure, threshold, evidence, severity, is_found, decision_id
    on reviews for each statement execute function announce();

create function record_decision(
    review_id bigint, seen integer, action text, reason text, comment text, reviewer text,
    rule text default '', assignee text default null, due_at timestamptz default null
) returns bigint language plpgsql security definer set search_path = deltadex, pg_temp as $$
#variable_conflict use_column
declare
    review   reviews;
    request  decisions;
    after    text;
    entry_id bigint;
    is_undecided boolean;
begin
    -- Before the row is read: what waits here must not decide on what it saw before it waited. Measurements wait too.
    perform pg_advisory_xact_lock(hashtextextended('deltadex decisions', 0));
    select * into review from reviews where id = review_id for update;
    if review.id is null then
        raise exception 'there is no finding under review with id %', review_id using errcode = 'no_data_found';
    elsif review.revision <> seen then
        raise exception 'finding % is not what you saw any more', review_id using errcode = 'DX001';
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
    elsif record_decision.action = 'approved' and request.reviewer = record_decision.reviewer then
        raise exception '% can''t approve their own request', request.reviewer using errcode = 'check_violation';
    elsif record_decision.action = 'accepted' and record_decision.reason = 'retire' then
        raise exception 'what retires a model needs a second person' using errcode = 'check_violation';
    elsif record_decision.action in ('returned', 'closed')
        and not has_any_column_privilege(session_user, 'deltadex.reviews', 'update') then
        raise exception 'permission denied: only measurements have a finding %', record_decision.action
            using errcode = 'insufficient_privilege';
    end if;

    insert into decisions (review_id, kind, model_version_id, other_id, recipe_id, measure, threshold, evidence, action,
        status, reason, comment, reviewer, rule, assignee, request_id)
    values (review.id, review.kind, review.model_version_id, review.other_id, review.recipe_id, review.measure, review.threshold,
        review.evidence, record_decision.action, after, case when record_decision.action in ('approved', 'refused')
        then request.reason else record_decision.reason end, record_decision.comment, record_decision.reviewer,
        record_decision.rule, coalesce(record_decision.assignee, ''), case when record_decision.action in
        ('approved', 'refused', 'closed') then request.id end)
    returning id into entry_id;

    update reviews set
        decision_id = entry_id,
        status = after,
        status_since = case when after = review.status then review.status_since else clock_timestamp() end,
        assignee = coalesce(record_decision.assignee, review.assignee),
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
    'The one way to change what people made of a finding, and the one thing that a reader may write.';

-- Notifications. What is new is read from reviews and decisions, whose ids are in the order of their commits.
create table notified (
    registry    text not null,
    rule        text not null,
    review_id   bigint not null,
    decision_id bigint not null,
    sent_at     timestamptz,
    primary key (registry, rule)
);
comment on table notified is 'How far each notification rule has told what there was to tell.';

create table deliveries (
    id           bigint generated always as identity primary key,
    registry     text not null,
    rule         text not null,
    channel      text not null,
    events       integer not null check (events > 0),
    attempts     integer not null default 1 check (attempts > 0),
    error        text not null default '',
    tried_at     timestamptz not null default now(),
    delivered_at timestamptz
);
comment on table deliveries is 'What was sent through which channel; neither texts nor addresses.';
comment on column deliveries.delivered_at is 'Null: not taken yet, and tried again every round.';
