"""The base of all services: what runs beside the line, such as a page, metrics or health checks."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, Optional, Sequence, Type

from adq_edge.station.events import Decided
from adq_edge.station.sources.base import NoOptions

if TYPE_CHECKING:
    from adq_edge.station.view import StationView


class Service(abc.ABC):
    """A service; its table of the station file is `[NAME]`, and without the table it does not run.

    A failure in a service never stops the line: the station reports it as the service's problem.

    Attributes:
        Options: frozen dataclass of the keys of its table; paths are relative to the station file.
        options: an instance of `Options`.
    """

    Options: ClassVar[Type[Any]] = NoOptions

    def __init__(self, options: Any) -> None:
        self.options = options

    def check(self) -> None:
        """Check that the service can start: libraries, ports, files. Nothing stays open.

        Raises:
            AdqError: it cannot; one line with what, where and what to do.
        """
        return

    def claims(self) -> Sequence[str]:
        """Return what no other part of the station may use, such as `port 8080`."""
        return ()

    @abc.abstractmethod
    def start(self, station: StationView) -> None:
        """Start the service; called once the engines are warm, before the first trigger is accepted.

        Raises:
            AdqError: it cannot start; the station does not start then.
        """

    def observe(self, decided: Decided) -> None:
        """Take a verdict, in order per source; called in the station's thread of observers, so be quick."""
        return

    def describe(self) -> Optional[str]:
        """Return the address of the service for messages; without passwords."""
        return None

    def close(self) -> None:
        """Stop the service; the sinks are still working then."""
        return
