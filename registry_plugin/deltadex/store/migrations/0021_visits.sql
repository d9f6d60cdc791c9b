-- When people last looked, so that the overview can say what is new to them.

create table visits (
    registry  text not null,
    person    text not null,
    seen_at   timestamptz not null default now(),
    before_at timestamptz,
    primary key (registry, person)
);
comment on table visits is 'The latest visit of each person to the dashboard, and the end of the one before.';

create function note_visit(in_registry text, who text) returns timestamptz
language sql security definer set search_path = deltadex, pg_temp as $$
    insert into visits (registry, person) values (in_registry, actor(who))
    on conflict (registry, person) do update set seen_at = now(), before_at = case
        when visits.seen_at < now() - interval '30 minutes' then visits.seen_at else visits.before_at end
    returning before_at
$$;
revoke execute on function note_visit from public;
