-- What a schema is made of, in one word: tables with their columns and rights, constraints, triggers and functions.
select md5(pg_catalog.string_agg(part.line, E'\n' order by part.line))
from (
    select c.relname || c.relkind::text || c.relrowsecurity::text || coalesce(c.relacl::text, '')
        || coalesce(c.reloptions::text, '') || c.relpersistence::text as line
    from pg_catalog.pg_class as c
    where c.relnamespace = %(schema)s::pg_catalog.regnamespace
    union all
    select c.relname || a.attnum::text || a.attname || a.atttypid::text || a.attnotnull::text || a.attisdropped::text
    from pg_catalog.pg_attribute as a
        join pg_catalog.pg_class as c on c.oid = a.attrelid
    where c.relnamespace = %(schema)s::pg_catalog.regnamespace and a.attnum > 0 and c.relkind = 'r'
    union all
    select k.conname || pg_catalog.pg_get_constraintdef(k.oid)
    from pg_catalog.pg_constraint as k
    where k.connamespace = %(schema)s::pg_catalog.regnamespace and k.contype = 'c'
    union all
    select t.tgname || t.tgenabled::text
    from pg_catalog.pg_trigger as t
        join pg_catalog.pg_class as c on c.oid = t.tgrelid
    where c.relnamespace = %(schema)s::pg_catalog.regnamespace
    union all
    select p.proname || p.prosrc || coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), '')
    from pg_catalog.pg_proc as p
    where p.pronamespace = %(schema)s::pg_catalog.regnamespace
    union all
    select 'version ' || m.version::text from /*schema*/migrations as m
    union all
    select coalesce(n.nspacl::text, '')
    from pg_catalog.pg_namespace as n
    where n.oid = %(schema)s::pg_catalog.regnamespace
) as part
