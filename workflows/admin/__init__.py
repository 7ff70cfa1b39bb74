"""The officers' rooms: pages load by id, call one service, and show the result."""

from workflows.admin import (
    approval,
    audience,
    channel,
    deadletter,
    delivery,
    digest,
    item,
    message,
    pause,
    policy,
    run,
    secret,
    source,
    standing,
    user,
    workflow,
)

__all__ = [
    "approval",
    "audience",
    "channel",
    "deadletter",
    "delivery",
    "digest",
    "item",
    "message",
    "pause",
    "policy",
    "run",
    "secret",
    "source",
    "standing",
    "user",
    "workflow",
]
