-- The tables of a schema that hold what a test has written.
select c.relname
from pg_catalog.pg_class as c
where c.relnamespace = %(schema)s::pg_catalog.regnamespace
    and c.relkind = 'r'
    and c.relname not in ('migrations', 'test_clock')
