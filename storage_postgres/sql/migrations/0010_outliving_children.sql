-- Children that go on when their parent has ended.

alter table /*schema*/executions
    add column outlives_parent boolean not null default false;
