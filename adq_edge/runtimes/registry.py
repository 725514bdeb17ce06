"""Loads engines in the runtime that they were built for, or in another one that can read them."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Type, Union

from adq_edge.artifacts.sidecar import Sidecar, read_sidecar
from adq_edge.core.errors import EngineError
from adq_edge.core.plugins import import_attribute
from adq_edge.core.runtimes import Runtime, find_runtime, load_library
from adq_edge.runtimes.base import Engine


def load_engine(
    path: Union[str, Path],
    *,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
    trust: bool = False,
) -> Engine:
    """Load an engine that `build` wrote.

    Args:
        path: the engine file, with its sidecar beside it.
        runtime: another runtime than the one that the engine was built for; a CPU engine only.
        threads: number of CPU threads; all by default.
        trust: True to load an engine that was changed since it was built.

    Raises:
        EngineError: the engine or its sidecar is missing, damaged, or for another machine or runtime.
        MissingDependencyError: the runtime is not installed.
    """
    path = Path(path)
    sidecar = read_sidecar(path, trust=trust)
    built_for, chosen = find_runtime(sidecar.runtime), find_runtime(runtime or sidecar.runtime)
    if not chosen.reads_engines_of(built_for):
        what = f"built for {built_for.name}, {chosen.name} cannot load it"
        raise EngineError(what, where=path, fix="Omit --runtime")
    return open_engine(path, sidecar, chosen, threads)


def open_engine(path: Path, sidecar: Sidecar, runtime: Runtime, threads: Optional[int]) -> Engine:
    """Load an engine whose sidecar was read and checked before.

    Raises:
        EngineError: the runtime cannot load the file.
        MissingDependencyError: the runtime is not installed.
    """
    return engine_class(runtime)(path, sidecar, threads)


def engine_class(runtime: Runtime) -> Type[Engine]:
    """Return the class of a runtime's engines.

    Raises:
        MissingDependencyError: the runtime is not installed.
    """
    load_library(runtime)
    found: Type[Engine] = import_attribute(runtime.engine)
    return found
