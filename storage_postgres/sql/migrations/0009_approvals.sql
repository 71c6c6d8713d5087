-- Approvals: what workflows ask people for, and who has decided what.

create table /*schema*/approvals (
    id uuid primary key,
    execution_id uuid not null,
    key text not null,
    name text not null,
    token_hash text not null,
    status text not null default 'pending',
    allowed text,
    details text,
    created_at timestamptz not null,
    expires_at timestamptz,
    decision_id uuid,
    decided_by text,
    comment text,
    decided_at timestamptz,
    constraint approvals_status check (status in ('pending', 'granted', 'refused', 'expired', 'withdrawn')),
    constraint approvals_decided check ((status in ('pending', 'withdrawn')) = (decided_at is null))
) with (fillfactor = 80);

-- One for each key of a workflow; and what is deleted with it.
create unique index approvals_key on /*schema*/approvals (execution_id, key);
create unique index approvals_token on /*schema*/approvals (token_hash);
create index approvals_status on /*schema*/approvals (status, id);
