"""Check that the device to measure is part of this machine."""

from __future__ import annotations

from pathlib import Path

from adq_edge.core.errors import AdqError
from adq_edge.core.options import CARD_DEVICES, Device
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.gpu import ask_cuda_driver
from adq_edge.hardware.jetson import read_jetson

_REMOTE = "adq-edge bench --device jetson --host user@board"


def check_device(device: Device, root: Path = Path("/"), run: Runner = run_command) -> None:
    """Check that this machine has a device; `root` and `run` as in `hardware`.

    Raises:
        AdqError: the device is not here.
    """
    where = f"--device {device.value}"
    if device is Device.JETSON and read_jetson(root) is None:
        raise AdqError(
            "this machine is not a Jetson",
            where=where,
            fix=f"Measure on a Jetson over the network: {_REMOTE}",
        )
    if device in CARD_DEVICES:
        driver = ask_cuda_driver(run)
        if not driver.gpus:
            raise AdqError(
                f"no NVIDIA GPU can be used here ({driver.problem})",
                where=where,
                fix=f"Run adq-edge doctor to see what is missing, or measure on a Jetson: {_REMOTE}",
            )
