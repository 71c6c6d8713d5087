-- Let the schema's clock stand: `clock_now()` reads a row that a test moves. For schemas of tests only.
create table /*schema*/test_clock (at timestamptz not null);

insert into /*schema*/test_clock (at) values (pg_catalog.clock_timestamp());

create or replace function /*schema*/clock_now() returns timestamptz
language sql volatile
begin atomic select at from /*schema*/test_clock; end;
