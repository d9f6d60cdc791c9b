-- What shows that finetunes are redundant, and how a model drifts probe by probe.

alter table findings drop constraint findings_kind_check, add constraint findings_kind_check check (
    kind in ('exact_duplicate', 'near_duplicate', 'same_task', 'drift', 'wrong_base', 'label_contradicted', 'failed',
        'unsupported', 'too_weak', 'license'));
alter table decisions drop constraint decisions_kind_check, add constraint decisions_kind_check check (
    kind in ('exact_duplicate', 'near_duplicate', 'same_task', 'drift', 'wrong_base', 'label_contradicted', 'failed',
        'unsupported', 'too_weak', 'license'));

alter table model_versions
    add column weights_bytes   bigint check (weights_bytes >= 0),
    add column training_digest text,
    add column metrics         jsonb not null default '{}';
comment on column model_versions.weights_bytes is 'Size of its own weight files; null: embedded before that was kept.';
comment on column model_versions.training_digest is
    'Equal for finetunes of the same data under the same parameters but for the seed; null where its run does not say.';
comment on column model_versions.metrics is 'The last value of each metric of its run, as it was when embedded.';

alter table embeddings add column probe_deltas halfvec[];
alter table embeddings alter column probe_deltas set storage external;
create or replace view current_embeddings as select * from embeddings where current_since is not null;
comment on column embeddings.probe_deltas is
    'Per probe, as a share of base_norm, in half precision; null: embedded before they were kept.';
create trigger embeddings_probes_written_once before update of probe_deltas on embeddings for each row
    when (old.probe_deltas is not null and new.probe_deltas is distinct from old.probe_deltas)
    execute function refuse_change('Embeddings are written once.');

-- The older one of a pair is the one that was registered first, not the one that was seen first.
update findings set model_version_id = other_id, other_id = model_version_id
from model_versions version, model_versions other
where version.id = model_version_id and other.id = other_id and kind in ('exact_duplicate', 'near_duplicate')
    and (other.created_ms, other.name collate "C", other.version)
        > (version.created_ms, version.name collate "C", version.version);

create table calibrations (
    recipe_id bigint not null references recipes,
    registry  text not null,
    setting   jsonb not null,
    found     jsonb not null,
    seconds   double precision not null,
    found_at  timestamptz not null default clock_timestamp(),
    primary key (recipe_id, registry)
);
comment on table calibrations is 'What decides about arriving versions; found anew after a hundred times as long as it took.';
comment on column calibrations.setting is 'What would decide where a recipe has too few pairs: other settings, other thresholds.';
