-- A version may wait for a worker that its artifact store lets in.

alter table model_versions drop constraint model_versions_lacking_check;
alter table model_versions add constraint model_versions_lacking_check
    check (lacking in ('memory', 'gpu memory', 'disk', 'time', 'artifact store'));
