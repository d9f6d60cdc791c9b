-- Versions that repeat another one: each is told to its owner, and noted in MLflow, once per finding.

create table repeat_notices (
    review_id        bigint not null references reviews on delete cascade,
    model_version_id bigint not null references model_versions on delete cascade,
    noticed_at       timestamptz not null default now(),
    tried_at         timestamptz,
    told_at          timestamptz,
    note             text,
    primary key (review_id, model_version_id)
);
create index repeat_notices_untold on repeat_notices (model_version_id) where told_at is null;
comment on table repeat_notices is 'Fresh versions in a finding about a group, and what became of the message to their owner.';
comment on column repeat_notices.told_at is 'Also set if there was nobody to tell: a channel that is named later gets no old news.';
comment on column repeat_notices.note is 'The tag in MLflow as it was last written; null: not yet, empty: removed.';
