"""Imports the libraries of the extra `station`, which a station needs for some kinds of sources and sinks."""

from __future__ import annotations

import importlib
from typing import Any, Optional

from adq_edge.core.errors import MissingDependencyError


def import_library(module: str, needed_by: str, package: Optional[str] = None) -> Any:
    """Return a module of a library.

    Args:
        module: the module, such as `paho.mqtt.client`.
        needed_by: what needs it, for the message, such as `MQTT`.
        package: the package to install, if its name is not that of the module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = package or module.partition(".")[0]
        fix = "Install it: pip install 'adq-edge[station]'"
        raise MissingDependencyError(f"{needed_by} needs {name}", fix=fix) from error
