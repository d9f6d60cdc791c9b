-- Weights that were quantized: copies of a model that differ from it by rounding only.

alter table imprints add column bits double precision check (bits > 0), add column base bytea;
comment on column imprints.bits is 'Bits per weight of a model that was quantized; null for any other.';
comment on column imprints.base is 'Of a model that was quantized: the weights of its base in matrices, NaN elsewhere.';

create view quantized_copies as
    select model_version_id, other_id from findings
    where kind = 'exact_duplicate' and evidence ? 'bits';
comment on view quantized_copies is 'Pairs of versions, the newer first, that are one model, of which one was quantized.';
