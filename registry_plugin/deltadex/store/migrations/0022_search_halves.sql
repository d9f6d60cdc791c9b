-- Trainings on halves of a search's examples, after its first answer: how far the answer depends on the examples.

alter table task_searches
    add column halves vector[] not null default '{}',
    add column halves_planned integer not null default 0 check (halves_planned >= 0);
comment on column task_searches.halves is 'Vectors of the halves, as many as are trained by now.';
comment on column task_searches.halves_planned is 'How many will be trained. Fewer stay where the flow died.';
