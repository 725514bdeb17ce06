"""From a JSON file, `--quick` and the command line's options to a study's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import dacite

from adq_edge.core.errors import AdqError
from adq_edge.core.files import storage_errors
from adq_edge.study.config import DEMO, QUICK, STUDY_METHODS, StudyConfig

_CONTAINERS = {"Tuple": "a list [...]", "Mapping": "an object {...}", "MethodConfig": "an object {...}"}
_KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}
"""What JSON calls the types of fields."""
_EXAMPLE = "An example and all fields: python -m pydoc adq_edge.study.config"


def read_config(path: Optional[Path] = None, *, quick: bool = False, **given: Any) -> StudyConfig:
    """Read a study's configuration.

    Args:
        path: the JSON file; none is needed where `given` says enough.
        quick: start from small settings, which the file and `given` go before.
        given: fields of `StudyConfig` that go before the file's, None for those that are not given; `methods`
            is a list of names here, and `epochs` and `backbone` (of Reverse Distillation) go to the methods.

    Raises:
        StorageError: the file cannot be read.
        AdqError: it is not JSON, or holds something unknown or of another type.
    """
    document = {} if path is None else _read_file(path)
    values: Dict[str, Any] = {**(QUICK if quick else {}), **document}
    epochs, backbone, names = (given.pop(name, None) for name in ("epochs", "backbone", "methods"))
    values["methods"] = _methods(quick, document, names, epochs, backbone)
    values.update({name: value for name, value in given.items() if value is not None})
    try:
        hooks = dacite.Config(strict=True, type_hooks={float: _as_float})
        return dacite.from_dict(StudyConfig, _with_tuples(values), hooks)
    except (dacite.DaciteError, TypeError, ValueError, OverflowError) as problem:
        raise AdqError(_explain(problem), where=path, fix=_EXAMPLE) from problem


def _explain(problem: Exception) -> str:
    """Say in the words of JSON what is wrong."""
    if isinstance(problem, dacite.UnexpectedDataError):
        return f"a study has no {', '.join(sorted(problem.keys))}"
    if isinstance(problem, dacite.WrongTypeError):
        wanted = str(problem.field_type)
        if isinstance(problem.value, Mapping) and "Mapping" in wanted:
            return f"{problem.field_path} holds something of another kind than it should"
        kinds = [words for name, words in _CONTAINERS.items() if name in wanted][:1]
        kinds = kinds or [words for name, words in _KINDS.items() if name in wanted]
        return f"{problem.field_path} is not {' or '.join(kinds)}"
    return f"cannot be read ({problem})"


def _as_float(value: Any) -> Any:
    """Take 60 for 60.0; what is no number is refused by its type."""
    return float(value) if type(value) is int else value


def _with_tuples(values: Any) -> Any:
    """Turn lists into tuples: a cast would make one of a text's letters too."""
    if isinstance(values, Mapping):
        return {name: _with_tuples(value) for name, value in values.items()}
    return tuple(_with_tuples(value) for value in values) if isinstance(values, list) else values


def _read_file(path: Path) -> Dict[str, Any]:
    with storage_errors(path):
        text = path.read_bytes()
    try:
        document = json.loads(text.decode("utf-8"))
        # Python reads NaN, infinities and halves of characters, which study.json could not repeat.
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as problem:
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
    """Return the methods' settings: quick ones, under the file's, under the command line's."""
    small: Mapping[str, Any] = QUICK["methods"] if quick else {}
    written = document.get("methods", {})
    if not isinstance(written, dict) or not all(isinstance(value, dict) for value in written.values()):
        return written  # refused with all that is of another type
    chosen = names or list(written) or list(STUDY_METHODS)
    methods: Dict[str, Any] = {name: {**small.get(name, {}), **written.get(name, {})} for name in chosen}
    if epochs is not None:
        methods = {name: {**values, "epochs": epochs} for name, values in methods.items()}
    distillation = methods.get("reverse-distillation", {})
    options = distillation.get("options", {})
    if backbone is not None and isinstance(options, dict):
        distillation["options"] = {**options, "backbone": backbone}
    return methods
