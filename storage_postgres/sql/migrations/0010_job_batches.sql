-- Batches that keep their id when they are flushed again, and jobs that are found by their dead letters.

-- The turn that took the event first; it stays when the event waits again, after a failure for good or a pause. What is
-- taken again is so together with what was taken with it then, and with nothing else.
alter table /*schema*/inbox add column batch_id uuid;

-- Events of the job that are dead. An update that leaves it alone touches no index.
alter table /*schema*/jobs
    add column dead_count bigint not null default 0,
    add constraint jobs_dead check (dead_count >= 0);
create index jobs_dead on /*schema*/jobs (kind, name, key) where dead_count > 0;
