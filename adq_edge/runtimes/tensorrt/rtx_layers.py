"""Reads the kernels that TensorRT-RTX's builder lists in its log.

The inspector needs the GPU of an engine; this list does not. Its convolutions are placeholders: the GPU's
driver chooses their code when the engine is loaded. Which operators are in which kernel, and the number
formats between the kernels, are final as far as is known.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

from adq_edge.runtimes.tensorrt.inspection import read_layer
from adq_edge.runtimes.tensorrt.job import LayerReport

_TITLE = "Layers:"
_KERNEL = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[.*?\], )?Outputs: \[(?P<outputs>.*?)\], TacticName: "
)
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[[-\d, ]*\].*?, Datatype: (\w+)")


class KernelList:
    """Keeps the list of kernels from the messages of a build.

    Attributes:
        layers: the kernels; None if no message lists them, or if a line of the list has another form.
    """

    def __init__(self) -> None:
        self.layers: Optional[Tuple[LayerReport, ...]] = None

    def read(self, message: str) -> None:
        """Read a message of the builder; all but the list of kernels are ignored."""
        if message.startswith(_TITLE):
            self.layers = read_kernels(message)


def read_kernels(message: str) -> Optional[Tuple[LayerReport, ...]]:
    """Return the kernels of a list, without entries that compute nothing; None if a line has another form."""
    kernels: List[LayerReport] = []
    for line in message[len(_TITLE) :].strip("\n").split("\n"):
        if not line.startswith("Name: "):
            break  # the list ends with an empty line
        found = _KERNEL.match(line)
        if found is None:
            return None
        inputs, outputs = _tensors(found["inputs"]), _tensors(found["outputs"])
        if inputs or outputs:  # signals between streams have neither
            layer = {"Name": found["name"], "LayerType": found["kind"], "Inputs": inputs, "Outputs": outputs}
            kernels.append(read_layer(layer))
    return tuple(kernels) or None


def _tensors(text: str) -> List[Dict[str, Any]]:
    return [{"Name": name, "Datatype": kind} for name, kind in _TENSOR.findall(text)]


def listen(kernels: KernelList) -> None:
    """Pass each message of the next build to a list, in addition to Polygraphy's log."""
    from polygraphy.backend.trt import util

    logger = util.get_trt_logger()

    class Listener(type(logger)):  # type: ignore[misc] # a class of Polygraphy that is made at run time
        """Polygraphy's logger for TensorRT, which drops the list because of its severity."""

        def log(self, severity: Any, msg: str) -> None:
            super().log(severity, msg)
            kernels.read(msg)

    util.TRT_LOGGER = Listener()
