"""Loads engines in the runtime that they were built for, or in another one that can read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Type, Union

from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.sidecar import Sidecar, read_sidecar, sidecar_path
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.files import read_consistently
from adq_edge.core.plugins import import_attribute
from adq_edge.core.runtimes import Runtime, find_runtime, load_library
from adq_edge.runtimes.base import Engine, explain


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
    files = (path, sidecar_path(path))
    return read_consistently(files, lambda: _load_once(path, runtime, threads, trust))


def _load_once(path: Path, runtime: Optional[str], threads: Optional[int], trust: bool) -> Engine:
    sidecar = read_sidecar(path, trust=True)  # `EngineFile` checks the hash of the bytes that are loaded
    built_for, chosen = find_runtime(sidecar.runtime), find_runtime(runtime or sidecar.runtime)
    if not chosen.reads_engines_of(built_for):
        what = f"built for {built_for.name}, {chosen.name} cannot load it"
        raise EngineError(what, where=path, fix="Omit --runtime")
    file = EngineFile(path, None if trust else sidecar.engine_sha256)
    engine = open_engine(file, sidecar, chosen, threads)
    assert file.sha256 is not None
    engine.sidecar = sidecar.of_engine(file.sha256)
    return engine


def open_engine(file: EngineFile, sidecar: Sidecar, runtime: Runtime, threads: Optional[int]) -> Engine:
    """Load an engine whose sidecar was read and checked before.

    Raises:
        EngineError: the file was changed, or the runtime cannot load it.
        MissingDependencyError: the runtime is not installed.
    """
    return construct(engine_class(runtime), runtime, file, sidecar, threads)


def construct(
    kind: Any, runtime: Runtime, file: EngineFile, sidecar: Sidecar, threads: Optional[int]
) -> Engine:
    """Load an engine as an instance of a class of a runtime's engines; errors as of `open_engine`."""
    try:
        engine: Engine = kind(file, sidecar, threads)
        return engine
    except AdqError:
        raise
    except Exception as error:  # the exceptions of runtime libraries have no common base class
        what = f"{runtime.label} cannot load it"
        raise explain(error, what, file.path, kind.fix_for(sidecar)) from error


def engine_class(runtime: Runtime) -> Type[Engine]:
    """Return the class of a runtime's engines.

    Raises:
        MissingDependencyError: the runtime is not installed.
    """
    load_library(runtime)
    found: Type[Engine] = import_attribute(runtime.engine)
    return found
