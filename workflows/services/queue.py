"""The only door to the queue. A queue message is a hint: the row it names carries the state."""

from django_q.tasks import async_task

from audit import context


def enqueue(task: str, pk: int) -> None:
    """Ask a worker to look at a row, under the cause in force.

    With the queue in the same database this is part of the transaction: no commit, no task.
    """
    async_task(task, pk, context.current().as_task_argument(), task_name=f"{task.rsplit('.', 1)[-1]}-{pk}")
