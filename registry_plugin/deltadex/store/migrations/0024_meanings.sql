-- Delta Meaning of versions: what a finetune makes more likely than its base, on texts and tokens that all bases can read.

create table meanings (
    model_version_id bigint not null references model_versions,
    texts_digest     text not null,
    weights_digest   text not null,
    base_digest      text not null,
    base_name        text not null,
    text_shifts      real[] not null check (array_position(text_shifts, null) is null),
    token_shifts     real[] not null check (array_position(token_shifts, null) is null),
    revision         bigint not null default 1,
    computed_at      timestamptz not null default clock_timestamp(),
    primary key (model_version_id, texts_digest)
);
create index meanings_of_texts on meanings (texts_digest, base_digest);
comment on table meanings is 'One per version and set of texts: that of its current weights, once it is computed.';
comment on column meanings.base_digest is 'Of the base''s tensors and config alone, whatever method embeds its finetunes.';
comment on column meanings.text_shifts is
    'Per text: its log-likelihood under the finetune less that under the base, in nats per byte.';
comment on column meanings.token_shifts is
    'Per token: its mean log-probability under the finetune less that under the base, in nats; NaN: not a token there.';

create view meaning_candidates as
    select distinct on (model_version_id) registry, model_version_id, comparable_embeddings.weights_digest, base_name
    from comparable_embeddings join recipes on recipes.id = recipe_id
    order by model_version_id, current_since desc, recipe_id desc;
comment on view meaning_candidates is 'Versions that may be compared across bases, each under its latest recipe.';
