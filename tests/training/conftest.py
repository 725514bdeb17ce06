from __future__ import annotations

from typing import Iterator

import pytest

NARROW = (64, 64, 64)


@pytest.fixture(scope="module", autouse=True)
def narrow_networks() -> Iterator[None]:
    """Train networks with all layers of the real ones but fewer channels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adq_edge.models.resnet.PLANES", NARROW)
        yield
