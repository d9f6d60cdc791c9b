-- Private probes: how far a version's embedding by secret probes lies from that by the public ones.

create table private_readings (
    model_version_id bigint not null references model_versions on delete cascade,
    probes_digest    text not null,
    weights_digest   text not null,
    base_digest      text not null,
    public_strength  double precision not null check (public_strength >= 0),
    private_strength double precision not null check (private_strength >= 0),
    similarity       double precision not null check (similarity between -1.001 and 1.001),
    noise_floor      double precision not null check (noise_floor >= 0),
    measured_at      timestamptz not null default clock_timestamp(),
    primary key (model_version_id, probes_digest)
);
create index private_readings_of_base on private_readings (base_digest, probes_digest);
comment on table private_readings is 'One per version and set of private probes. Neither the probes nor their seed are in the store.';
comment on column private_readings.probes_digest is 'Of the public and the private probes: another seed has another one.';
comment on column private_readings.public_strength is 'Norm of the embedding over the base''s states; so has private_strength.';
comment on column private_readings.similarity is 'Cosine similarity of the two embeddings; 0 where one of them is zero.';
