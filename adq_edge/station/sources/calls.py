"""A source for programs: `station.intake(NAME).submit(Trigger(image=...))`."""

from __future__ import annotations

from adq_edge.station.intake import Intake
from adq_edge.station.sources.base import Policy, Source

_PAUSE_S = 3600.0


class CallSource(Source):
    """Submits nothing itself: the program that runs the station does, or a service such as a server."""

    policy = Policy.NEWEST

    def run(self, intake: Intake) -> None:
        """Wait until the station ends."""
        while not intake.wait(_PAUSE_S):
            pass
