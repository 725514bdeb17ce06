"""The table of boards against NVIDIA's data sheets."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.core.errors import AdqError
from adq_edge.hardware.boards import BOARDS, find_board
from adq_edge.hardware.jetson import read_jetson
from factories.boards import write_tree
from factories.paths import REPOSITORY


@pytest.mark.parametrize(
    ("numbers", "power", "fp32", "fp16", "int8", "bandwidth"),
    [
        ((6, 7, 8), "20W", 0.85, 6.8, 13.6, 59.7),
        ((0, 1, 2), "15W", 0.85, 6.8, 13.6, 51.2),
        ((3, 4), "10W", 0.62, 4.9, 9.9, 51.2),
        ((5,), "10W_DESKTOP", 0.39, 3.1, 6.3, 51.2),
    ],
)
def test_power_modes_of_the_xavier_nx_have_the_published_peaks(numbers, power, fp32, fp16, int8, bandwidth):
    """TFLOPS, TOPS and GB/s, rounded as published."""
    board = find_board("xavier-nx")
    assert [mode.number for mode in board.modes] == list(range(9))
    for mode in (board.modes[number] for number in numbers):
        assert mode.name.startswith(f"MODE_{power}")
        assert round(board.peak(mode, "fp32") / 1e12, 2) == fp32
        assert round(board.peak(mode, "fp16") / 1e12, 1) == fp16
        assert round(board.peak(mode, "int8") / 1e12, 1) == int8
        assert round(board.bandwidth(mode) / 1e9, 1) == bandwidth


@pytest.mark.parametrize(
    ("key", "number_format", "tera", "bandwidth"),
    [
        ("agx-xavier", "fp16", 11, 136.5),
        ("agx-xavier", "int8", 22, 136.5),
        ("orin-nano", "int8", 40 / 2, 68),
        ("orin-nano-super", "int8", 67 / 2, 102),
        ("orin-nx-8", "int8", 50 / 2, 102.4),  # 70 TOPS with the DLA
        ("orin-nx-16", "int8", 60 / 2, 102.4),  # 100 TOPS with both DLAs
        ("agx-orin-32", "int8", 108 / 2, 204.8),
        ("agx-orin-64", "int8", 170 / 2, 204.8),
        ("agx-orin-64", "fp32", 5.3, 204.8),
        ("thor-t4000", "fp8", 1200 / 4, 273),
        ("thor-t5000", "fp8", 1035 / 2, 273),
        ("thor-t5000", "fp32", 8.064, 273),
    ],
)
def test_fastest_modes_have_the_peaks_of_the_data_sheets(key, number_format, tera, bandwidth):
    """TFLOPS and TOPS of the GPU without sparsity, GB/s; NVIDIA rounds them."""
    board = find_board(key)
    mode = board.fastest_mode
    assert board.peak(mode, number_format) / 1e12 == pytest.approx(tera, rel=0.03)
    assert board.bandwidth(mode) / 1e9 == pytest.approx(bandwidth, rel=0.005)


def test_thor_at_120_w_has_the_peak_of_the_data_sheet():
    """1820 TFLOPS in FP4 with sparsity, which are a quarter in FP8 without."""
    board = find_board("thor-t5000")
    assert board.peak(board.modes[1], "fp8") / 1e12 == pytest.approx(1820 / 4, rel=0.005)


def test_modes_are_possible():
    assert len({board.key for board in BOARDS}) == len({board.name for board in BOARDS}) == len(BOARDS)
    for board in BOARDS:
        assert len({mode.number for mode in board.modes}) == len(board.modes)
        for mode in board.modes:
            assert 0 < mode.sms <= board.sms
            assert mode.gpu_mhz <= board.fastest_mode.gpu_mhz
            assert mode.memory_mhz <= board.fastest_mode.memory_mhz


@pytest.mark.parametrize(
    "spelled", ["orin-nano-super", "Orin Nano Super", "JETSON_ORIN_NANO_SUPER", " jetson orin-nano super "]
)
def test_a_board_is_found_by_any_spelling_of_its_name(spelled: str):
    assert find_board(spelled).key == "orin-nano-super"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("orin-nano-supr", "orin-nano-super"), ("agxorin64", "agx-orin-64"), ("thor", "thor-")],
)
def test_an_unknown_board_gets_the_nearest_name_and_the_list(wrong: str, meant: str):
    with pytest.raises(AdqError, match=f"Did you mean {meant}.*There are: xavier-nx, .*thor-t5000"):
        find_board(wrong)


@given(st.text())
def test_any_other_name_is_refused_in_one_line(name: str):
    with pytest.raises(AdqError, match="There are: xavier-nx") as refusal:
        find_board(f"no {name}")
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("part", "cores"),
    [
        ("p3668-0001", 2),
        ("p3767-0000", 2),
        ("p3767-0001", 1),
        ("p3767-0005", 0),
        ("p3701-0005", 2),
        ("p3834-0008", 0),
    ],
)
def test_a_recognized_board_has_the_dla_cores_of_the_table(part: str, cores: int, tmp_path):
    tree = {
        "proc/device-tree/compatible": f"nvidia,p0000-0000+{part}\0",
        "proc/device-tree/model": "Jetson\0",
    }
    assert read_jetson(write_tree(tmp_path, tree)).dla_cores == cores


def test_page_for_buyers_has_the_figures_of_the_table():
    """docs/jetson.md; boards that differ in a mode only share a row."""
    rows = {}
    for line in (REPOSITORY / "docs/jetson.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        for position, key in enumerate(re.findall(r"`([a-z0-9-]+)`", cells[1]) if len(cells) == 7 else ()):
            rows[key] = [cell.split(", ")[min(position, cell.count(", "))] for cell in cells[2:6]] + cells[6:]
    assert list(rows) == [board.key for board in BOARDS]
    for board in BOARDS:
        mode = board.fastest_mode
        peaks = (
            board.peak(mode, "fp16") / 1e12,
            board.peak(mode, "int8") / 1e12,
            board.bandwidth(mode) / 1e9,
        )
        for shown, value in zip(rows[board.key][:4], (mode.gpu_mhz, *peaks)):
            assert float(shown) == pytest.approx(value, rel=0.005)
        assert int(rows[board.key][4]) == board.dla_cores
