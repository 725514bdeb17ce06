"""Prints each verdict as a line of JSON on standard output."""

from __future__ import annotations

from adq_edge.core.json_lines import print_json_line
from adq_edge.station.events import Decided
from adq_edge.station.services.base import Service
from adq_edge.station.view import StationView


class PrintLines(Service):
    """Prints the verdicts; the station ends when the reader of a pipe does."""

    def start(self, station: StationView) -> None:
        """Remember the station."""
        self._station = station

    def observe(self, decided: Decided) -> None:
        """Print a verdict."""
        try:
            print_json_line(decided.record)
        except OSError:
            self._station.request_stop()
