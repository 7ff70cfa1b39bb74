"""Open lines to channels: each kept from one wave of calls to the next, several side by side where the adapter says so.

A connection is used by one thread at a time. The threads make calls and nothing else: they touch no database.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from compliance_bot.guardrails.http import GuardedSession
from workflows import channels
from workflows.channels import DeliveryError, Means, Parcel, Receipt, Rejected, Sender, TryLater
from workflows.models import Channel
from workflows.services import outbound, secrets
from workflows.services.attachments import read_attachment
from workflows.services.tokens import SharedToken

Result = Receipt | DeliveryError
_LOOK_EVERY = 0.5  # seconds


class Lines:
    """All lines of one dispatch; use it in ``with``."""

    def __init__(self) -> None:
        self._open: dict[str, Line] = {}

    def to(self, channel: Channel, *, purpose: str) -> "Line":
        """A line as the channel is set up at this moment. Raises UnknownKind, SecretError."""
        adapter = channels.registry.get(channel.kind)
        values = secrets.of_channel(channel, purpose=purpose)
        fingerprint = secrets.fingerprint(channel, values)
        if fingerprint not in self._open:
            token, config = SharedToken(channel), channel.config
            self._open[fingerprint] = Line(
                adapter,
                fingerprint,
                lambda http: Means(
                    config=config, secrets=values, http=http, tokens=token, read_attachment=read_attachment
                ),
            )
        return self._open[fingerprint]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._open.values():
            line.close()


class Line:
    """The connections to one channel as it is set up; ``fingerprint`` says how."""

    def __init__(self, adapter: channels.Channel, fingerprint: str, means: Callable[[GuardedSession], Means]) -> None:
        self.fingerprint = fingerprint
        self._adapter = adapter
        self._means = means
        self._width = adapter.side_by_side
        self._connections = [_Connection(adapter, means) for _ in range(self._width)]
        self._idle: SimpleQueue[_Connection] = SimpleQueue()
        for connection in self._connections:
            self._idle.put(connection)
        self._threads = ThreadPoolExecutor(self._width)  # starts one only when it is asked for

    def send(self, parcels: Sequence[Parcel], goes_on: Callable[[], bool]) -> list[Result | BaseException]:
        """What came of each. An exception that no adapter should raise comes among the results, too.

        ``goes_on`` is asked between calls; once it says no, whatever has not begun comes back as not sent.
        """
        if self._width == 1:
            return [self._attempt(parcel) for parcel in parcels]
        futures = [self._threads.submit(self._attempt, parcel) for parcel in parcels]
        while wait(futures, _LOOK_EVERY).not_done:
            if not goes_on():
                for future in futures:
                    future.cancel()
        return [_outcome(future) for future in futures]

    def recall(self, reference: str) -> None:
        """Take a message back. Raises DeliveryError."""
        with outbound.session() as http:
            self._adapter.recall(reference, self._means(http))

    def close(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _attempt(self, parcel: Parcel) -> Result:
        connection = self._idle.get()
        try:
            return connection.send(parcel)
        except Rejected as error:
            return error
        except DeliveryError as error:
            connection.close()  # whatever is left on it belongs to the call that failed
            return error
        finally:
            self._idle.put(connection)


def _outcome(future: Future[Result]) -> Result | BaseException:
    if future.cancelled():
        return TryLater("halted", "Sending was halted before this call began.")
    return future.exception() or future.result()


class _Connection:
    """Opened by its first parcel, and again by the next one after it was closed."""

    def __init__(self, adapter: channels.Channel, means: Callable[[GuardedSession], Means]) -> None:
        self._adapter = adapter
        self._means = means
        self._opened = ExitStack()
        self._sender: Sender | None = None

    def send(self, parcel: Parcel) -> Receipt:
        if self._sender is None:
            http = self._opened.enter_context(outbound.session())
            self._sender = self._opened.enter_context(self._adapter.connect(self._means(http)))
        return self._sender(parcel)

    def close(self) -> None:
        self._sender = None
        self._opened.close()
