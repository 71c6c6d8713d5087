-- Between the transactions in which user code runs: undo what it may have set. Locks nothing.
-- What "discard all" does, without its deallocation of prepared statements: psycopg would go on to use them. One round
-- trip; several statements in one text are one transaction, which is why it is not "discard all" itself.
-- A role goes before the settings, which may be its own to set.
close all;
set session authorization default;
reset role;
reset all;
unlisten *;
select pg_catalog.pg_advisory_unlock_all();
discard temp;
discard sequences;
