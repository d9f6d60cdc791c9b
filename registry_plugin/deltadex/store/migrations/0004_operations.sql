-- What the database itself refuses, what people decided, and word of changes. Who may do what is in roles.py.

-- A version's states. Mirrors the guards in versions.py, for whatever goes past them.
create function refuse_illegal_state() returns trigger language plpgsql as $$
declare
    is_legal boolean;
begin
    if tg_op = 'INSERT' then
        is_legal := new.state = 'discovered';
    elsif (new.registry, new.version, new.created_ms) <> (old.registry, old.version, old.created_ms) then
        raise exception '%/% is another model version than %/%', new.name, new.version, old.name, old.version
            using errcode = 'check_violation', hint = 'A registered model may take a new name; nothing else changes.';
    else
        is_legal := case
            when new.attempt = old.attempt + 1 then new.state = 'discovered'
            when new.attempt <> old.attempt then false
            when new.state = old.state then true
            when old.state = 'deleted' then false
            when new.state in ('embedded', 'deleted') then true
            when new.state = 'queued' then old.state = 'discovered'
            when new.state = 'running' then old.state in ('discovered', 'queued')
            when new.state in ('waiting', 'unsupported', 'failed') then old.state in ('discovered', 'queued', 'running')
            else false
        end;
    end if;
    if not is_legal then
        raise exception '%/% can''t become % (attempt %)%', new.name, new.version, new.state, new.attempt,
            case when tg_op = 'UPDATE' then format(' from %s (attempt %s)', old.state, old.attempt) else '' end
            using errcode = 'check_violation', hint = 'See 0004_operations.sql for what is legal.';
    end if;
    return new;
end $$;
create trigger model_versions_legal before insert or update of state, attempt, registry, version, created_ms
    on model_versions for each row execute function refuse_illegal_state();

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% in % is refused', lower(tg_op), tg_table_name
        using errcode = 'check_violation', hint = tg_argv[0];
end $$;
create trigger model_versions_stay before delete or truncate on model_versions
    for each statement execute function refuse_change('A version that is gone has the state deleted, and stays.');
create trigger state_changes_stay before update or delete or truncate on state_changes
    for each statement execute function refuse_change('The history is only added to.');
create trigger embeddings_written_once before update of
    model_version_id, recipe_id, vector, norm, base_norm, probe_agreement, weights_digest, created_at
    on embeddings for each row execute function refuse_change('Embeddings are written once.');
create trigger embeddings_stay before truncate on embeddings
    for each statement execute function refuse_change('`deltadex db prune` removes what nobody needs.');

create function refuse_to_forget() returns trigger language plpgsql as $$
begin
    if old.current_since is not null
        and exists (select from model_versions where id = old.model_version_id and state <> 'deleted') then
        raise exception 'the current embedding of version id % is not deleted', old.model_version_id
            using errcode = 'check_violation', hint = 'Only those of deleted versions and superseded ones may go.';
    end if;
    return old;
end $$;
create trigger embeddings_kept before delete on embeddings for each row execute function refuse_to_forget();

-- Writers add to the history by changing states and in no other way. A temporary table must not be taken for ours.
alter function record_state_change() security definer set search_path = deltadex, pg_temp;

create table decisions (
    id               bigint generated always as identity primary key,
    kind             text not null check (
        kind in ('exact_duplicate', 'near_duplicate', 'drift', 'wrong_base', 'too_weak')),
    model_version_id bigint not null references model_versions,
    other_id         bigint references model_versions,
    recipe_id        bigint references recipes,
    measure          double precision,
    threshold        double precision,
    evidence         jsonb not null,
    decision         text not null check (decision in ('confirmed', 'dismissed')),
    reason           text not null check (btrim(reason) <> ''),
    reviewer         text not null check (btrim(reviewer) <> ''),
    decided_by       text not null default session_user,
    decided_at       timestamptz not null default clock_timestamp(),
    check (other_id <> model_version_id)
);
comment on table decisions is
    'Append-only: who decided what about a finding, on which numbers. The latest one about a kind and its versions '
    'counts. Not tied to the finding''s row, which goes when it is no longer found and comes back under another id.';
comment on column decisions.reviewer is 'Who decided, by the word of the program that asked.';
comment on column decisions.decided_by is 'The database user of that program.';
create index decisions_about on decisions (model_version_id, other_id, kind, id);
create trigger decisions_stay before update or delete or truncate on decisions
    for each statement execute function refuse_change('Decide again instead: the latest decision counts.');

create function decide(finding_id bigint, decision text, reason text, reviewer text) returns bigint
language plpgsql security definer set search_path = deltadex, pg_temp as $$
declare
    decision_id bigint;
begin
    insert into decisions (
        kind, model_version_id, other_id, recipe_id, measure, threshold, evidence, decision, reason, reviewer)
    select kind, model_version_id, other_id, recipe_id, measure, threshold, evidence,
        decide.decision, decide.reason, decide.reviewer
    from findings where id = finding_id
    returning id into decision_id;
    if decision_id is null then
        raise exception 'there is no finding with id %', finding_id using errcode = 'no_data_found';
    end if;
    return decision_id;
end $$;
revoke execute on function decide from public;
comment on function decide is 'The one thing that a reader may write: a decision, with the numbers of its finding.';

create table clusters (
    id        bigint generated always as identity primary key,
    recipe_id bigint not null references recipes,
    registry  text not null,
    number    integer not null check (number >= 0),
    label     text not null default '',
    method    jsonb not null,
    found_at  timestamptz not null default now(),
    unique (recipe_id, registry, number),
    unique (id, recipe_id)
);
comment on table clusters is 'The latest clustering of a recipe in a registry.';
comment on column clusters.method is 'Algorithm and parameters.';

create table cluster_assignments (
    recipe_id        bigint not null,
    model_version_id bigint not null references model_versions,
    cluster_id       bigint not null,
    primary key (recipe_id, model_version_id),
    foreign key (cluster_id, recipe_id) references clusters (id, recipe_id) on delete cascade
);
comment on table cluster_assignments is 'A version is in one cluster of a recipe at most.';
create index cluster_assignments_cluster on cluster_assignments (cluster_id);

-- Once per transaction and table, however many rows change; heartbeats are no news.
create function announce() returns trigger language plpgsql as $$
begin
    perform pg_notify('deltadex', tg_table_name);
    return null;
end $$;
create trigger model_versions_announce after insert or update of
    name, source, run_id, description, tags, aliases, state, attempt, reason, hint, flow_run_id, weights_digest, artifact_uri
    on model_versions for each statement execute function announce();
create trigger findings_announce after insert or update or delete
    on findings for each statement execute function announce();

comment on table model_versions is 'What the registry has, and how far each version has come. Rows are never deleted.';
comment on table findings is 'What a person should look at. Those about deleted versions stay, and are not shown.';
comment on column recipes.method is 'Name, probe set and its digest, readout and dtype.';
comment on column embeddings.base_norm is 'Mean norm of the base''s own hidden states: the unit of strength.';
comment on column embeddings.probe_agreement is 'Mean cosine similarity of each probe''s delta with the vector.';
comment on column embeddings.weights_digest is 'Hex SHA-256 over the finetune''s own tensors.';
comment on column findings.measure is 'The number that was found; null where none is involved.';
comment on column findings.threshold is 'The threshold that it crossed, as it was set then.';
