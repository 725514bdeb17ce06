"""Reads a study's configuration from a JSON file, `--quick` and the options of the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import dacite

from adq_edge.core.errors import AdqError
from adq_edge.core.methods import STUDY_METHODS
from adq_edge.core.reading import LARGEST_JSON, parse_json, read_regular, with_tuples
from adq_edge.core.records import explain_field_error
from adq_edge.study.config import DEMO, QUICK, StudyConfig

_EXAMPLE = "An example and all fields: python -m pydoc adq_edge.study.config"


def read_config(path: Optional[Path] = None, *, quick: bool = False, **given: Any) -> StudyConfig:
    """Read a study's configuration.

    Args:
        path: the JSON file; optional.
        quick: start from small settings, which the file and `given` override.
        given: fields of `StudyConfig` that override the file's; None is ignored. Here, `methods` is a list of
            names, and `epochs` and `backbone` (of Reverse Distillation) are settings of the methods.

    Raises:
        StorageError: the file cannot be read.
        AdqError: the file is not JSON, or a field is unknown or of the wrong type.
    """
    document = {} if path is None else _read_file(path)
    values: Dict[str, Any] = {**(QUICK if quick else {}), **document}
    epochs, backbone, names = (given.pop(name, None) for name in ("epochs", "backbone", "methods"))
    values["methods"] = _methods(quick, document, names, epochs, backbone)
    values.update({name: value for name, value in given.items() if value is not None})
    try:
        hooks = dacite.Config(strict=True, type_hooks={float: _as_float})
        return dacite.from_dict(StudyConfig, with_tuples(values), hooks)
    except (dacite.DaciteError, TypeError, ValueError, OverflowError) as problem:
        raise AdqError(explain_field_error(problem), where=path, fix=_EXAMPLE) from problem


def _as_float(value: Any) -> Any:
    """Convert an integer to a float; dacite rejects other types."""
    return float(value) if type(value) is int else value


def _read_file(path: Path) -> Dict[str, Any]:
    try:
        document = parse_json(read_regular(path, LARGEST_JSON))
        # A lone surrogate cannot be written to study.json.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except ValueError as problem:
        raise AdqError(f"not a JSON file ({problem})", where=path, fix=_EXAMPLE) from problem
    if not isinstance(document, dict):
        raise AdqError("not a study's configuration", where=path, fix=_EXAMPLE)
    folder = path.resolve().parent
    _resolve(document, ("data", "output", "teacher_weights"), folder)
    methods = document.get("methods", {})
    for method in methods.values() if isinstance(methods, dict) else ():
        if isinstance(method, dict):
            _resolve(method, ("teacher_weights",), folder)
            finished = method.get("finished")
            if isinstance(finished, dict):
                _resolve(finished, tuple(finished), folder)
    return document


def _resolve(values: Dict[str, Any], names: Tuple[str, ...], folder: Path) -> None:
    for name in names:
        if isinstance(values.get(name), str) and values[name] != DEMO:
            values[name] = str(folder / values[name])


def _methods(
    quick: bool,
    document: Mapping[str, Any],
    names: Optional[List[str]],
    epochs: Optional[int],
    backbone: Optional[str],
) -> Any:
    """Return the methods' settings: the command line overrides the file, which overrides `--quick`."""
    small: Mapping[str, Any] = QUICK["methods"] if quick else {}
    written = document.get("methods", {})
    if not isinstance(written, dict) or not all(isinstance(value, dict) for value in written.values()):
        return written  # dacite rejects it later, as a value of the wrong type
    chosen = names or list(written) or list(STUDY_METHODS)
    methods: Dict[str, Any] = {name: {**small.get(name, {}), **written.get(name, {})} for name in chosen}
    if epochs is not None:
        methods = {name: {**values, "epochs": epochs} for name, values in methods.items()}
    distillation = methods.get("reverse-distillation", {})
    options = distillation.get("options", {})
    if backbone is not None and isinstance(options, dict):
        distillation["options"] = {**options, "backbone": backbone}
    return methods
