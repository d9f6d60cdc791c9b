-- Words are told apart from those of the other models of the same base.

alter table words add column among integer not null default 0;
comment on column words.among is 'Number of models of the base whose mean shift was subtracted; 0 if none was.';
