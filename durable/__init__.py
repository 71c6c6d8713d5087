"""Durable executions for Python whose only server is Postgres."""

from durable.app import Durable
from durable.child import Child
from durable.codec import Limits, PayloadCodec
from durable.completion import OnComplete
from durable.context import TaskContext
from durable.durations import Duration
from durable.errors import (
    AlreadyRegistered,
    ApprovalClosed,
    ApprovalError,
    ApprovalNotAllowed,
    ApprovalNotFound,
    ChildFailed,
    ChildLimitExceeded,
    ConfigurationError,
    Continue,
    DurableError,
    EmbeddedError,
    ErrorInfo,
    ExecutionCancelled,
    ExecutionError,
    ExecutionFailed,
    ExecutionNotFound,
    ExecutionTimedOut,
    HistoryTooLong,
    IdempotencyConflict,
    InvalidInput,
    LeaseLost,
    MapFailed,
    NonRetryable,
    NotOpen,
    PayloadTooLarge,
    PermissionDenied,
    ResultTimeout,
    RetryAfter,
    SchemaNotInstalled,
    SchemaTooNew,
    SchemaTooOld,
    SerializationError,
    SleepingIdConflict,
    StepFailed,
    StepMismatch,
    StorageError,
    StorageUnavailable,
    TransactionEnded,
    TransitionRefused,
    UnknownTask,
    UpdateFailed,
    UpdateRefused,
    UpdateTimeout,
    WorkflowTrapWarning,
)
from durable.events import EventName, Events, LifecycleEvent
from durable.execution import CancelResult, Execution, Status, WakeResult
from durable.executor import Executor
from durable.explain import StatusReport
from durable.handle import Handle, SyncHandle
from durable.jobs.schedule import Schedule, cron, every
from durable.pool import Pool, SyncPool
from durable.pool_options import Rate
from durable.pool_report import PoolReport, WorkReport
from durable.pool_rows import PoolConfig
from durable.registry import Registry
from durable.retry import Retry, constant, exponential, linear
from durable.returns import Again, ChildResult, Completion, Done, LoopResult, ParentResult, Spawn
from durable.settings import ExecutorSettings
from durable.sync_client import Client
from durable.task import SleepingTask, Task
from durable.workflow.approval import Approval, ApprovalDecision
from durable.workflow.approvals import ApprovalRecord, Approvals, SyncApprovals
from durable.workflow.context import WorkflowContext
from durable.workflow.requests import Query, Update
from durable.workflow.said import Chunk, PublishedValues
from durable.workflow.step import Step, step
from durable.workflow.sync_handle import SyncWorkflowHandle
from durable.workflow.workflow import Workflow, WorkflowHandle
from durable.workflow_rows import SendOutcome

__all__ = [
    "Again",
    "AlreadyRegistered",
    "Approval",
    "ApprovalClosed",
    "ApprovalDecision",
    "ApprovalError",
    "ApprovalNotAllowed",
    "ApprovalNotFound",
    "ApprovalRecord",
    "Approvals",
    "CancelResult",
    "Child",
    "ChildFailed",
    "ChildLimitExceeded",
    "ChildResult",
    "Chunk",
    "Client",
    "Completion",
    "ConfigurationError",
    "Continue",
    "Done",
    "Durable",
    "DurableError",
    "Duration",
    "EmbeddedError",
    "ErrorInfo",
    "EventName",
    "Events",
    "Execution",
    "ExecutionCancelled",
    "ExecutionError",
    "ExecutionFailed",
    "ExecutionNotFound",
    "ExecutionTimedOut",
    "Executor",
    "ExecutorSettings",
    "Handle",
    "HistoryTooLong",
    "IdempotencyConflict",
    "InvalidInput",
    "LeaseLost",
    "LifecycleEvent",
    "Limits",
    "LoopResult",
    "MapFailed",
    "NonRetryable",
    "NotOpen",
    "OnComplete",
    "ParentResult",
    "PayloadCodec",
    "PayloadTooLarge",
    "PermissionDenied",
    "Pool",
    "PoolConfig",
    "PoolReport",
    "PublishedValues",
    "Query",
    "Rate",
    "Registry",
    "ResultTimeout",
    "Retry",
    "RetryAfter",
    "Schedule",
    "SchemaNotInstalled",
    "SchemaTooNew",
    "SchemaTooOld",
    "SendOutcome",
    "SerializationError",
    "SleepingIdConflict",
    "SleepingTask",
    "Spawn",
    "Status",
    "StatusReport",
    "Step",
    "StepFailed",
    "StepMismatch",
    "StorageError",
    "StorageUnavailable",
    "SyncApprovals",
    "SyncHandle",
    "SyncPool",
    "SyncWorkflowHandle",
    "Task",
    "TaskContext",
    "TransactionEnded",
    "TransitionRefused",
    "UnknownTask",
    "Update",
    "UpdateFailed",
    "UpdateRefused",
    "UpdateTimeout",
    "WakeResult",
    "WorkReport",
    "Workflow",
    "WorkflowContext",
    "WorkflowHandle",
    "WorkflowTrapWarning",
    "constant",
    "cron",
    "every",
    "exponential",
    "linear",
    "step",
]
