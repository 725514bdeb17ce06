"""Runtimes by name, and the one function that loads an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Optional, Union

from adq_edge.artifacts.sidecar import Sidecar, read_sidecar
from adq_edge.core.errors import EngineError, MissingDependencyError
from adq_edge.core.options import CPU_RUNTIMES, RuntimeName, choose
from adq_edge.runtimes.base import Engine


def _onnxruntime(path: Path, sidecar: Sidecar, threads: Optional[int]) -> Engine:
    from adq_edge.runtimes.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, sidecar, threads)


def _openvino(path: Path, sidecar: Sidecar, threads: Optional[int]) -> Engine:
    try:
        from adq_edge.runtimes.openvino import OpenVinoEngine
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "OpenVINO is not installed", fix="Install it: pip install 'adq-edge[openvino]'"
        ) from error
    return OpenVinoEngine(path, sidecar, threads)


def _tensorrt(path: Path, sidecar: Sidecar, threads: Optional[int]) -> Engine:
    from adq_edge.runtimes.tensorrt.engine import TensorRTEngine

    del threads  # the GPU computes
    return TensorRTEngine(path, sidecar)


_LOADERS: Dict[RuntimeName, Callable[[Path, Sidecar, Optional[int]], Engine]] = {
    RuntimeName.ONNXRUNTIME: _onnxruntime,
    RuntimeName.OPENVINO: _openvino,
    RuntimeName.TENSORRT: _tensorrt,
    RuntimeName.TENSORRT_RTX: _tensorrt,
}


def load_engine(
    path: Union[str, Path],
    *,
    runtime: Optional[Union[RuntimeName, str]] = None,
    threads: Optional[int] = None,
    trust: bool = False,
) -> Engine:
    """Load an engine that `build` wrote.

    Args:
        path: the engine file; its sidecar lies beside it.
        runtime: another runtime than the one it was built for (both CPU runtimes read the same files).
        threads: CPU threads; all by default.
        trust: take an engine that was changed since it was built.

    Raises:
        EngineError: the engine or its sidecar is missing, damaged, or meant for another machine or runtime.
        MissingDependencyError: the runtime is not installed.
    """
    path = Path(path)
    sidecar = read_sidecar(path, trust=trust)
    built_for, asked = RuntimeName(sidecar.runtime), choose(RuntimeName, runtime or sidecar.runtime)
    if asked is not built_for and not {asked, built_for} <= set(CPU_RUNTIMES):
        raise EngineError(
            f"built for {built_for.value}, {asked.value} cannot load it",
            where=path,
            fix="Leave --runtime away",
        )
    return open_engine(path, sidecar, asked, threads)


def open_engine(path: Path, sidecar: Sidecar, runtime: RuntimeName, threads: Optional[int]) -> Engine:
    """Load an engine whose sidecar is already at hand and trusted.

    Raises:
        EngineError: the runtime cannot load the file.
        MissingDependencyError: the runtime is not installed.
    """
    return _LOADERS[runtime](path, sidecar, threads)


def runtime_version(runtime: RuntimeName) -> str:
    """Return the installed version of a runtime.

    Raises:
        MissingDependencyError: the runtime is not installed.
    """
    if runtime not in CPU_RUNTIMES:
        from adq_edge.runtimes.tensorrt.release import flavour_of, load_release

        return load_release(flavour_of(runtime)).version
    try:
        if runtime is RuntimeName.OPENVINO:
            from adq_edge.runtimes.openvino import VERSION
        else:
            from adq_edge.runtimes.onnxruntime import VERSION
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{runtime.value} is not installed", fix="Install it with pip"
        ) from error
    return VERSION
