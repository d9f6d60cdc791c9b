-- The tokens that a finetune promotes and demotes, beside its embedding. A table of its own: those who read vectors
-- need none of it.

create table words (
    model_version_id bigint not null,
    recipe_id        bigint not null,
    weights_digest   text not null,
    promoted         jsonb not null,
    demoted          jsonb not null,
    note             text not null,
    primary key (model_version_id, recipe_id, weights_digest),
    foreign key (model_version_id, recipe_id, weights_digest) references embeddings on delete cascade
);
comment on table words is 'What an embedding says through its base''s own output head.';
comment on column words.promoted is '[[token, score], …], the furthest first; in standard deviations over the vocabulary.';
comment on column words.note is 'Why there are none, where there are none.';

alter table clusters add column terms jsonb not null default '[]';
comment on column clusters.terms is '[[text, origin, members, weight], …]: what is over-represented, from which labels are made.';
