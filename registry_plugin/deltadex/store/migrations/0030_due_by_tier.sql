-- Due dates follow the risk tier of the models concerned, unless a person has set another one.

alter table reviews add column planned_due_at timestamptz;
comment on column reviews.planned_due_at is 'The date that Deltadex set; a person has set another one where due_at differs.';
-- Only who assigns a finding can have set its date.
update reviews set planned_due_at = due_at
where not exists (select from decisions where review_id = reviews.id and action = 'assigned');
