from __future__ import annotations

import os
from typing import Dict

import pytest

from factories.examples import install_examples
from factories.paths import REPOSITORY


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """Return an environment in which Python finds the packages of `examples/`."""
    pytest.importorskip("setuptools", minversion="70.1", reason="setuptools builds the packages")
    target = install_examples(tmp_path_factory.mktemp("third-party"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(target), str(REPOSITORY)])}
