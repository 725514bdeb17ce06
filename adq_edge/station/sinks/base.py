"""The base of all sinks: where verdicts go."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Mapping, Optional, Sequence, Tuple, Type

from adq_edge.station.events import VERDICTS, Message
from adq_edge.station.sources.base import NoOptions

if TYPE_CHECKING:
    from adq_edge.station.view import StationView


class Refused(Exception):  # noqa: N818  # the peer's answer
    """The peer will never take the first message of a call: it is kept as refused, and the next one goes on.

    Only for an answer about the message itself. A wrong password or a full peer is another error: the
    message is then sent again until the peer takes it.
    """


class Sink(abc.ABC):
    """A sink; its table of the station file is `[sinks.NAME]` with `type = "..."`.

    The station calls `open`, `send` and `close` in one thread of the sink: `open` at its start, then `send`
    for each batch. If `open` or `send` raises, the station reports the error as the sink's problem and calls
    `close`. It waits (0.5 s at first, twice as long each time, 60 s at most) and starts again with `open`.
    Verdicts wait in the store meanwhile, for days if need be. Each call needs a time limit of its own.

    A message may come twice, after a lost acknowledgement or a crash; it has the same id then. The messages
    of one source always come in order.

    Attributes:
        Options: frozen dataclass of the sink's own keys; paths are relative to the station file.
        batch: largest number of messages in one call of `send`.
        verdicts: the verdicts that are sent where the sink's table names none.
        needs_images: True if the station must keep image and overlay files for this sink's messages.
        service: the service that the sink needs, such as `web`; the station then runs it in any case.
        name: the name of the sink.
        options: an instance of `Options`.
    """

    Options: ClassVar[Type[Any]] = NoOptions
    batch: ClassVar[int] = 64
    verdicts: ClassVar[Tuple[str, ...]] = VERDICTS
    needs_images: ClassVar[bool] = False
    service: ClassVar[Optional[str]] = None

    def __init__(self, name: str, options: Any) -> None:
        self.name, self.options = name, options

    def check(self) -> None:
        """Check what only the user can mend: libraries, folders, and options that are impossible together.

        Raises:
            AdqError: one line with what, where and what to do; the station does not start then.
        """
        return

    def probe(self) -> None:
        """Check that the peer is there now and takes the password; nothing stays open and nothing is sent.

        Only `run --check` calls it: the station starts without its peers.

        Raises:
            AdqError: it is not there; one line with what, where and what to do.
        """
        return

    def wants(self, record: Mapping[str, Any]) -> bool:
        """Return True if a record is sent to this sink; `verdicts` of the sink's table is applied before."""
        return True

    def claims(self) -> Sequence[str]:
        """Return what no other part of the station may use, such as `the file log.jsonl`."""
        return ()

    @property
    def image_folder(self) -> Optional[Path]:
        """The folder that images are written below; None if there is none."""
        return None

    def attach(self, station: StationView) -> None:
        """Take what the sink may know of its station; called once, before `open`."""
        return

    def open(self) -> None:
        """Connect to the peer.

        Raises:
            Exception: any; it is tried again.
        """
        return

    @abc.abstractmethod
    def send(self, messages: Sequence[Message]) -> int:
        """Send messages, and wait until the peer has acknowledged them.

        Returns:
            How many were acknowledged, counted from the first; the others are sent again.

        Raises:
            Refused: the peer refuses the first message for good.
            Exception: any other; all messages of the call are sent again.
        """

    def require_peer(self) -> None:
        """Check the connection; called every few seconds while nothing is to be sent.

        Raises:
            Exception: the peer is gone; the station reports it, and starts again with `open`.
        """
        return

    def close(self) -> None:
        """Close the connection; called after each failure and at the end."""
        return

    def describe(self) -> Optional[str]:
        """Return the peer for messages, such as its address; without passwords."""
        return None
