"""The help of a verb, with its options in groups."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Tuple

from typer.core import TyperCommand

GENERAL = "General options"
"""The group of the options that every verb has."""
_OF_ALL_VERBS = ("as_json", "verbose", "quiet", "help")

GROUPS: Mapping[str, Mapping[str, Tuple[str, ...]]] = {
    "train": {
        "Data": ("data", "layout", "category", "one_class_each", "validation", "balance"),
        "Model": (
            "arch",
            "image_size",
            "teacher_weights",
            "backbone",
            "bottleneck",
            "patch",
            "students",
            "stride",
            "shared",
            "layers",
            "width",
            "option",
        ),
        "Training": (
            "output",
            "restart",
            "epochs",
            "batch_size",
            "learning_rate",
            "decay",
            "select",
            "early_stopping",
            "seed",
            "precision",
            "compile",
        ),
        "Search for fast models": ("find_fast", "within"),
        "Quantization-aware training": ("qat", "target"),
    },
    "import": {
        "Bundle": ("output", "inspect", "data", "data_layout"),
        "Input of the model": ("input_", "layout", "channel_order", "image_size", "mean", "std", "scale"),
        "Outputs of the model": ("map_output", "score_output", "keep_postprocessing"),
    },
    "analyze": {
        "Analysis": ("images", "target", "output", "plot", "show_all", "threads"),
        "Calibration": ("calib", "source", "calib_data", "layout", "samples"),
    },
    "build": {
        "Engine": (
            *("output", "fp32", "fp16", "bf16", "int8", "fp8", "sparsity"),
            *("device", "runtime", "threads", "fit"),
        ),
        "Calibration of INT8 and FP8": ("calib", "calib_data", "layout", "source", "samples"),
        "Layers in float32": ("max_drop", "plan", "data", "keep_nearest"),
        "TensorRT": ("sm", "route", "dla", "max_batch", "workspace", "memory_limit"),
    },
    "fit": {
        "Good images": ("data", "layout", "category", "product", "good", "clean"),
        "Products": ("false_rejects", "remove", "check", "list_"),
        "Engine": ("runtime", "threads"),
    },
    "eval": {
        "Data and result": ("data", "layout", "category", "output"),
        "Decisions": ("false_rejects", "choose_threshold", "cost_escape", "cost_reject"),
        "Engine": ("runtime", "threads", "trust"),
    },
    "bench": {
        "Measurement": ("device", "scenario", "runtime", "threads", "quick", "no_cuda_graph", "image"),
        "Boards": ("host", "precision", "data", "layout", "submit"),
        "Estimate": ("estimate", "board"),
    },
    "run": {
        "First look": ("source", "engine", "web"),
        "Other ways to run": ("check", "replay", "speed"),
    },
    "predict": {
        "Output": ("output", "heat_maps", "fail_on"),
        "Decisions": ("product", "product_from_folder", "false_rejects", "min_area"),
        "Engine": ("runtime", "threads", "trust"),
    },
    "serve": {
        "Address": ("host", "port", "token_file"),
        "Limits": ("max_body", "timeout", "concurrency", "queue"),
        "Decisions": ("product", "false_rejects", "min_area"),
        "Engine": ("runtime", "threads", "trust"),
    },
}
"""The names of a verb's parameters by group. The options of other verbs are one list."""

_HYPHEN = re.compile(r"(?<=\S)-(?=\S)")
_UNBROKEN = "\u2011"
"""A hyphen at which no line is broken: the names of choices and options stay whole."""


class VerbCommand(TyperCommand):
    """A verb whose help shows its options in groups; `rich_help_panel` of each parameter is its group."""

    def __init__(self, name: str, **values: Any) -> None:
        super().__init__(name, **values)
        groups = {"Arguments": (), "Options": (), **GROUPS.get(name, {}), GENERAL: _OF_ALL_VERBS}
        self._titles = list(groups)
        of_parameter = {parameter: title for title, parameters in groups.items() for parameter in parameters}
        parameters: List[Any] = list(self.params)  # mypy does not know what typer adds to them
        for parameter in parameters:
            kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
            parameter.rich_help_panel = of_parameter.get(str(parameter.name), kind)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the groups of options."""
        sections: Dict[str, List[Tuple[str, str]]] = {title: [] for title in self._titles}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"  # newer typer adds a type to its name
                name = str(parameter.metavar) if is_argument else record[0]
                title = getattr(parameter, "rich_help_panel", GENERAL) or GENERAL
                sections[title].append((name, _HYPHEN.sub(_UNBROKEN, record[1])))
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        formatter.buffer = [text.replace(_UNBROKEN, "-") for text in formatter.buffer]
