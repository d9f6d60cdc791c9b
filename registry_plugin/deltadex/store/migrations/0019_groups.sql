-- A group of redundant versions is one finding: whom to keep, whom to retire, who stays.
-- Pairs of these kinds are evidence of their group's finding, and are not reviewed themselves.

comment on column findings.other_id is
    'The older one of a pair; null for a group, whose members are in the evidence. Pairs of a group''s kind are evidence.';

create function member_ids(evidence jsonb) returns bigint[] language sql immutable
set search_path = pg_catalog, pg_temp as $$
    select coalesce(array_agg((member ->> 'id')::bigint order by place), '{}')
    from jsonb_array_elements(coalesce(evidence -> 'members', '[]')) with ordinality as each (member, place)
$$;
comment on function member_ids is 'Versions of a group, the oldest first; empty for a finding about one version or a pair.';
create index findings_members on findings using gin (member_ids(evidence));
create index reviews_members on reviews using gin (member_ids(evidence));

create function bound_members(evidence jsonb) returns jsonb language sql immutable
set search_path = pg_catalog, pg_temp as $$
    select coalesce(jsonb_agg(member - '{role,why}'::text[] order by place), '[]')
    from jsonb_array_elements(coalesce(evidence -> 'members', '[]')) with ordinality as each (member, place)
$$;
comment on function bound_members is 'What is true of a group''s members, whoever is kept: weights, aliases, use, open findings.';

create function is_plan(evidence jsonb) returns boolean language sql immutable
set search_path = pg_catalog, pg_temp as $$
    select coalesce(jsonb_typeof(evidence -> 'reason'), 'string') = 'string'
        and coalesce(jsonb_typeof(evidence -> 'advice'), 'string') = 'string'
        and coalesce(jsonb_typeof(evidence -> 'freed_bytes'), 'null') in ('number', 'null')
        and coalesce(jsonb_typeof(evidence -> 'replays'), 'array') = 'array'
        and not evidence @? '$.replays[*] ? (!exists(@.replay) || !(@.verdict.type() == "string"))'
        and coalesce(bool_and(member ->> 'role' in ('keep', 'retire', 'stay') and jsonb_typeof(member -> 'why') = 'string'
            and member ?& '{role,why}'), true)
        and count(*) filter (where member ->> 'role' = 'keep') = 1 and bool_or(member ->> 'role' = 'retire')
    from jsonb_array_elements(coalesce(evidence -> 'members', '[]')) member
$$;
comment on function is_plan is 'Whether a plan can be read, keeps one version, and retires another.';

-- A person may choose another keeper: the entry says whom. Nothing that is in use or needed can be retired, nothing with an
-- open finding of high severity kept, and a request whose group has changed can't be approved.
drop function record_decision;
create function record_decision(
    review_id bigint, seen integer, action text, reason text, comment text, reviewer text,
    rule text default '', assignee text default null, due_at timestamptz default null, identity text default '',
    chosen jsonb default '{}'
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
    ruled    jsonb;
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
    -- An approval is of what was asked for.
    ruled := case when record_decision.action in ('approved', 'refused') then request.evidence
        else review.evidence || record_decision.chosen end;
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
        when 'returned' then case when review.status in ('dismissed', 'fixed', 'accepted') or request.id is not null
            then 'open' end
        when 'closed' then case when is_undecided or review.status = 'accepted' then 'fixed' end
    end;
    if record_decision.action <> 'refused' and bound_members(ruled) <> bound_members(review.evidence)
        or record_decision.chosen - '{members,reason,advice,freed_bytes,replays}'::text[] <> '{}' then
        raise exception 'finding % is not what was asked for any more', review_id using errcode = 'DX001';
    elsif record_decision.chosen <> '{}' and (record_decision.action <> 'requested' or not is_plan(ruled))
        or record_decision.action in ('requested', 'approved') and 'retire' in (record_decision.reason, request.reason)
            and ruled -> 'members' <> '[]' and not is_plan(ruled) then
        raise exception 'finding %: that is not a plan that keeps one version and retires another', review_id
            using errcode = 'check_violation';
    elsif record_decision.reason = 'retire' and exists (
        select from jsonb_array_elements(coalesce(ruled -> 'members', '[]')) member
        where member ->> 'role' = 'retire' and member -> 'holds' <> '[]'
            or member ->> 'role' = 'keep' and member -> 'flaws' <> '[]') then
        raise exception 'finding %: what is in use can''t be retired, nor what has an open finding kept', review_id
            using errcode = 'check_violation';
    end if;
    if after is null then
        raise exception 'a finding that is % can''t be %', review.status, record_decision.action
            using errcode = 'check_violation', hint = 'See docs/reviews.md.';
    elsif request.id is not null and record_decision.action not in
        ('assigned', 'approved', 'refused', 'closed', 'returned') then
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
        review.threshold, ruled, record_decision.action, after, case when record_decision.action in
        ('approved', 'refused') then request.reason else record_decision.reason end, record_decision.comment, who, known_as,
        record_decision.rule, case when record_decision.action = 'assigned' then coalesce(record_decision.assignee, '') else ''
        end, case when record_decision.action in ('approved', 'refused', 'closed', 'returned') then request.id end)
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
            when after in ('accepted', 'dismissed', 'fixed') then coalesce(ruled ->> 'reason', '') end
    where id = review_id;
    return entry_id;
end $$;
revoke execute on function record_decision from public;
comment on function record_decision is
    'The one way to change what people made of a finding. For whom it decides, see may_name_actors().';
