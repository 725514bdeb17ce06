"""A source that is triggered over HTTP: `POST /trigger/SOURCE` and `POST /images/SOURCE`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from adq_edge.station.intake import Intake
from adq_edge.station.sources.base import Policy, Source

_ATTENTION_S = 1.0


@dataclasses.dataclass(frozen=True)
class HttpSourceOptions:
    """The keys of a source of type `http`.

    Attributes:
        camera: the source of type `camera` that takes the image of `POST /trigger/SOURCE`.
    """

    camera: Optional[str] = None


class HttpSource(Source):
    """Lets the station's server submit the triggers; it does nothing itself."""

    Options = HttpSourceOptions
    options: HttpSourceOptions
    policy: ClassVar[Policy] = Policy.NEWEST
    service: ClassVar[Optional[str]] = "web"

    def run(self, intake: Intake) -> None:
        """Wait until the station ends."""
        while not intake.wait(_ATTENTION_S):
            pass
