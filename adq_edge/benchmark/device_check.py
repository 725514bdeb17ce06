"""Whether the device that is to be measured is here at all."""

from __future__ import annotations

from pathlib import Path

from adq_edge.core.errors import AdqError
from adq_edge.core.options import CARD_DEVICES, Device
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.gpu import ask_cuda_driver
from adq_edge.hardware.jetson import read_jetson

_ON_A_BOARD = "measure on a Jetson over the network: adq-edge bench --device jetson --host user@board"


def check_device(device: Device, root: Path = Path("/"), run: Runner = run_command) -> None:
    """Refuse a device that this machine has not.

    Args:
        device: what is to be measured.
        root: where `proc` and `etc` are.
        run: how the CUDA driver is asked.

    Raises:
        AdqError: it is not here.
    """
    where = f"--device {device.value}"
    if device is Device.JETSON and read_jetson(root) is None:
        raise AdqError("this machine is no Jetson", where=where, fix=_capitalized(_ON_A_BOARD))
    if device in CARD_DEVICES:
        driver = ask_cuda_driver(run)
        if not driver.gpus:
            raise AdqError(
                f"no NVIDIA GPU can be used here ({driver.problem})",
                where=where,
                fix=f"adq-edge doctor says what is missing; or {_ON_A_BOARD}",
            )


def _capitalized(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
