-- The licences that a version and its base declare, for documents about the version.

alter table model_versions add column license text, add column base_license text;
comment on column model_versions.license is
    'Licence that its tag or its model card declares, in lower case; empty if it declares none, null until it is read.';
comment on column model_versions.base_license is
    'Licence that the model card of its base declares, in lower case; empty if there is none, null until it is read.';
