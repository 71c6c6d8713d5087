-- Let a stopped clock stand at another moment.
update /*schema*/test_clock set at = %(at)s::timestamptz
