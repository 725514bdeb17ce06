"""The Jetson modules that adq-edge knows: peak rates, memory and stock power modes.

The only such table: `hardware.jetson` recognizes boards by it, and `roofline` estimates with it.

Operations per second of a GPU: 2 * multiply-adds per cycle and SM * SMs * clock. NVIDIA's data sheets state
the same values, often doubled for 2:4 sparsity:

    Xavier NX       21 TOPS INT8 with both DLAs; 13.6 of them the tensor cores, at 1109 MHz
    AGX Xavier      11 TFLOPS FP16, 22 TOPS INT8 at 1377 MHz (GPU alone)
    Orin Nano 8 GB  40 TOPS INT8 sparse, 20 dense, at 625 MHz; Super: 67 sparse, 33 dense, at 1020 MHz
    AGX Orin 64 GB  170 TOPS INT8 sparse, 85 dense; 5.3 TFLOPS FP32, at 1.3 GHz (GPU alone)
    Thor T5000      1035 TFLOPS FP8 sparse, 517 dense; 8.06 TFLOPS FP32, at 1575 MHz; 20 SMs. At 120 W: 1820
                    TFLOPS FP4 sparse, so 455 FP8 dense, at 1386 MHz
    Thor T4000      1200 TFLOPS FP4 sparse, so 300 FP8 dense, at 1.53 GHz

Bytes per second of the memory: 2 transfers per cycle * bus width * EMC clock.

Power modes: stock /etc/nvpmodel.conf of Jetson Linux, as in the files nvpmodel_t194.conf,
nvpmodel_t194_p3668.conf, nvpmodel_p3701_*.conf and nvpmodel_p3767_*.conf that LineageOS carries
(github.com/LineageOS/android_device_nvidia_galen and android_device_nvidia_concord). TPC_PG_MASK there
switches pairs of SMs off. Where a mode has no limit, the maximum of the data sheet applies. Boards with a
changed file differ. Of Thor's modes, those are here whose clocks were found: MAXN and 120W. Its INT8 rate is
taken to be that of FP8, as NVIDIA states for DRIVE Thor (1000 TOPS, 1000 TFLOPS).
"""

from __future__ import annotations

import dataclasses
from typing import Mapping, NamedTuple, Optional, Tuple

from adq_edge.core.errors import AdqError
from adq_edge.core.nearest import did_you_mean
from adq_edge.core.text import quoted


class Chip(NamedTuple):
    """A system on a chip.

    Attributes:
        name: such as `tegra194`.
        gpu: architecture of its GPU.
        compute_capability: such as `7.2`.
        macs: multiply-adds per cycle of an SM, dense, by number format.
    """

    name: str
    gpu: str
    compute_capability: str
    macs: Mapping[str, int]


XAVIER = Chip("tegra194", "Volta", "7.2", {"fp32": 64, "fp16": 512, "int8": 1024})
ORIN = Chip("tegra234", "Ampere", "8.7", {"fp32": 128, "tf32": 512, "fp16": 1024, "int8": 2048})
THOR = Chip(
    "tegra264", "Blackwell", "11.0", {"fp32": 128, "tf32": 2048, "fp16": 4096, "int8": 8192, "fp8": 8192}
)


@dataclasses.dataclass(frozen=True)
class BoardMode:
    """A power mode of a board.

    Attributes:
        number: its id, as printed by `nvpmodel -q`.
        name: its name.
        gpu_mhz: maximum GPU clock in MHz.
        memory_mhz: maximum memory (EMC) clock in MHz.
        sms: number of SMs that are on; None in result files of adq-edge before 0.2.
        cpu_cores: number of CPU cores that are on; None as for `sms`, or if it was not found.
        cpu_mhz: maximum CPU clock in MHz; None as for `cpu_cores`.
    """

    number: int
    name: str
    gpu_mhz: float
    memory_mhz: float
    sms: Optional[int] = None
    cpu_cores: Optional[int] = None
    cpu_mhz: Optional[float] = None


@dataclasses.dataclass(frozen=True)
class Board:
    """A Jetson module.

    Attributes:
        key: its name as an argument, such as `orin-nano-super`.
        name: its name for people.
        family: the family that `doctor` names.
        memory_gb: memory of CPU and GPU together.
        bus_bits: width of the memory bus in bits.
        sms: number of SMs of the GPU.
        dla_cores: number of deep learning accelerators.
        modules: part numbers.
        modes: stock power modes in the order of nvpmodel.conf.
    """

    key: str
    name: str
    family: str
    chip: Chip
    memory_gb: int
    bus_bits: int
    sms: int
    dla_cores: int
    modules: Tuple[str, ...]
    modes: Tuple[BoardMode, ...]

    def peak(self, mode: BoardMode, number_format: str) -> float:
        """Return the peak operations per second in a number format; a multiply-add is two operations."""
        sms = self.sms if mode.sms is None else mode.sms
        return 2 * self.chip.macs[number_format] * sms * mode.gpu_mhz * 1e6

    def vector_peak(self, mode: BoardMode, number_format: str) -> float:
        """Return the peak operations per second without tensor cores.

        Two float16 numbers or four int8 numbers take the place of one float32 number.
        """
        per_lane = {"fp16": 2, "int8": 4, "fp8": 2}.get(number_format, 1)
        return per_lane * self.peak(mode, "fp32")

    def bandwidth(self, mode: BoardMode) -> float:
        """Return the peak bytes per second between GPU and memory."""
        return 2 * self.bus_bits / 8 * mode.memory_mhz * 1e6

    @property
    def fastest_mode(self) -> BoardMode:
        """The mode with the highest peak rate and bandwidth."""
        return max(self.modes, key=lambda mode: (self.peak(mode, "fp16"), mode.memory_mhz))


def _nano(key: str, name: str, *modes: BoardMode) -> Board:
    parts = ("p3767-0003", "p3767-0005")
    return Board(key, name, "Jetson Orin Nano", ORIN, 8, 128, 8, 0, parts, modes)


def _nx(key: str, name: str, memory_gb: int, dla_cores: int, part: str, *modes: BoardMode) -> Board:
    return Board(key, name, "Jetson Orin NX", ORIN, memory_gb, 128, 8, dla_cores, (part,), modes)


BOARDS: Tuple[Board, ...] = (
    Board(
        "xavier-nx",
        "Jetson Xavier NX",
        "Jetson Xavier NX",
        XAVIER,
        8,
        128,
        6,
        2,
        ("p3668",),
        (
            BoardMode(0, "MODE_15W_2CORE", 1109.25, 1600, 6, 2, 1907.2),
            BoardMode(1, "MODE_15W_4CORE", 1109.25, 1600, 6, 4, 1420.8),
            BoardMode(2, "MODE_15W_6CORE", 1109.25, 1600, 6, 6, 1420.8),
            BoardMode(3, "MODE_10W_2CORE", 803.25, 1600, 6, 2, 1497.6),
            BoardMode(4, "MODE_10W_4CORE", 803.25, 1600, 6, 4, 1190.4),
            BoardMode(5, "MODE_10W_DESKTOP", 510, 1600, 6, 4, 1907.2),
            BoardMode(6, "MODE_20W_2CORE", 1109.25, 1866, 6, 2, 1907.2),
            BoardMode(7, "MODE_20W_4CORE", 1109.25, 1866, 6, 4, 1420.8),
            BoardMode(8, "MODE_20W_6CORE", 1109.25, 1866, 6, 6, 1420.8),
        ),
    ),
    Board(
        "agx-xavier",
        "Jetson AGX Xavier",
        "Jetson AGX Xavier",
        XAVIER,
        32,
        256,
        8,
        2,
        ("p2888",),
        (
            BoardMode(0, "MAXN", 1377, 2133, 8, 8, 2265.6),
            BoardMode(1, "MODE_10W", 520, 1065.6, 4, 2, 1200),
            BoardMode(2, "MODE_15W", 670, 1331.2, 8, 4, 1200),
            BoardMode(3, "MODE_30W_ALL", 900, 1600, 8, 8, 1200),
            BoardMode(4, "MODE_30W_6CORE", 900, 1600, 8, 6, 1450),
            BoardMode(5, "MODE_30W_4CORE", 900, 1600, 8, 4, 1780),
            BoardMode(6, "MODE_30W_2CORE", 900, 1600, 8, 2, 2100),
            BoardMode(7, "MODE_15W_DESKTOP", 670, 1331.2, 8, 4, 2188.8),
        ),
    ),
    _nano(
        "orin-nano",
        "Jetson Orin Nano 8 GB",
        BoardMode(0, "15W", 624.75, 2133, 8, 6, 1510.4),
        BoardMode(1, "7W", 408, 2133, 4, 4, 960),
    ),
    _nano(
        "orin-nano-super",
        "Jetson Orin Nano Super 8 GB",
        BoardMode(0, "15W", 612, 2133, 8, 6, 1497.6),
        BoardMode(1, "25W", 918, 3199, 8, 6, 1344),
        BoardMode(2, "MAXN_SUPER", 1020, 3199, 8, 6, 1728),
    ),
    _nx(
        "orin-nx-8",
        "Jetson Orin NX 8 GB",
        8,
        1,
        "p3767-0001",
        BoardMode(0, "MAXN", 765, 3199, 8, 6, 1984),
        BoardMode(1, "10W", 612, 2133, 4, 4, 1190.4),
        BoardMode(2, "15W", 612, 3199, 4, 4, 1420.8),
        BoardMode(3, "20W", 408, 3199, 8, 6, 1497.6),
    ),
    _nx(
        "orin-nx-8-super",
        "Jetson Orin NX 8 GB, Super",
        8,
        1,
        "p3767-0001",
        BoardMode(0, "MAXN_SUPER", 1173, 3199, 8, 6, 1984),
        BoardMode(1, "10W", 612, 2133, 4, 4, 1190.4),
        BoardMode(2, "15W", 612, 3199, 4, 4, 1420.8),
        BoardMode(3, "20W", 408, 3199, 8, 6, 1497.6),
        BoardMode(4, "40W", 1173, 3199, 8, 6, 1984),
    ),
    _nx(
        "orin-nx-16",
        "Jetson Orin NX 16 GB",
        16,
        2,
        "p3767-0000",
        BoardMode(0, "MAXN", 918, 3199, 8, 8, 1984),
        BoardMode(1, "10W", 612, 2133, 4, 4, 1190.4),
        BoardMode(2, "15W", 612, 3199, 4, 4, 1651.2),
        BoardMode(3, "25W", 408, 3199, 8, 8, 1497.6),
    ),
    _nx(
        "orin-nx-16-super",
        "Jetson Orin NX 16 GB, Super",
        16,
        2,
        "p3767-0000",
        BoardMode(0, "MAXN_SUPER", 1173, 3199, 8, 8, 1984),
        BoardMode(1, "10W", 612, 2133, 4, 4, 1190.4),
        BoardMode(2, "15W", 612, 3199, 4, 4, 1420.8),
        BoardMode(3, "25W", 408, 3199, 8, 8, 1497.6),
        BoardMode(4, "40W", 1173, 3199, 8, 8, 1497.6),
    ),
    Board(
        "agx-orin-32",
        "Jetson AGX Orin 32 GB",
        "Jetson AGX Orin",
        ORIN,
        32,
        256,
        14,
        2,
        ("p3701-0004",),
        (
            BoardMode(0, "MAXN", 930.75, 3199, 14, 8, 2188.8),
            BoardMode(1, "MODE_15W", 408, 2133, 6, 4, 1113.6),
            BoardMode(2, "MODE_30W", 612, 3199, 8, 8, 1728),
            BoardMode(3, "MODE_40W", 816, 3199, 14, 8, 1497.6),
        ),
    ),
    Board(
        "agx-orin-64",
        "Jetson AGX Orin 64 GB",
        "Jetson AGX Orin",
        ORIN,
        64,
        256,
        16,
        2,
        ("p3701-0000", "p3701-0005"),
        (
            BoardMode(0, "MAXN", 1300.5, 3199, 16, 12, 2201.6),
            BoardMode(1, "MODE_15W", 408, 2133, 6, 4, 1113.6),
            BoardMode(2, "MODE_30W", 612, 3199, 8, 8, 1728),
            BoardMode(3, "MODE_50W", 816, 3199, 16, 12, 1497.6),
        ),
    ),
    Board(
        "thor-t4000",
        "Jetson T4000 (Thor)",
        "Jetson Thor",
        THOR,
        64,
        256,
        12,
        0,
        (),
        (BoardMode(0, "MAXN", 1530, 4266, 12, 12, 2601),),
    ),
    Board(
        "thor-t5000",
        "Jetson T5000 (Thor)",
        "Jetson Thor",
        THOR,
        128,
        256,
        20,
        0,
        ("p3834",),
        (
            BoardMode(0, "MAXN", 1575, 4266, 20, 14, 2601),
            BoardMode(1, "120W", 1386, 4266, 20, None, 2601),
        ),
    ),
)

DEFAULT_BOARD = "xavier-nx"


def find_board(key: str) -> Board:
    """Return a board by its name; letter case, blanks, underscores and a leading `jetson` do not matter.

    Raises:
        AdqError: no board has this name; the message has the nearest name and all names.
    """
    words = key.lower().replace("_", " ").replace("-", " ").split()
    wanted = "-".join(words[1:] if words[:1] == ["jetson"] else words)
    for board in BOARDS:
        if wanted == board.key:
            return board
    keys = [board.key for board in BOARDS]
    question = did_you_mean(wanted, keys) if wanted else None
    fix = " ".join(filter(None, (question, f"There are: {', '.join(keys)}")))
    raise AdqError(f"no board is called {quoted(key)}", fix=fix)
