from __future__ import annotations

from pathlib import Path

import pytest

from adq_edge.hardware.bfloat16 import why_no_bfloat16


def write_cpuinfo(root: Path, *cores: str) -> None:
    blocks = [f"processor : {i}\nmodel name : Xeon X\nflags : {flags}\n" for i, flags in enumerate(cores)]
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text("\n".join(blocks))


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_a_processor_with_bfloat16_products_has_it(tmp_path: Path, flag: str):
    write_cpuinfo(tmp_path, f"avx2 {flag}", f"avx2 {flag}")
    assert why_no_bfloat16(tmp_path, "x86_64") is None
    assert why_no_bfloat16(tmp_path, "aarch64") is not None


def test_a_processor_is_named_that_lacks_it_on_any_core(tmp_path: Path):
    write_cpuinfo(tmp_path, "avx2 avx512_bf16", "avx2 avx512f")
    reason = why_no_bfloat16(tmp_path, "x86_64")
    assert reason == "the processor (Xeon X) has none of avx512_bf16 and amx_bf16"


def test_an_unknown_processor_has_no_bfloat16(tmp_path: Path):
    assert "(x86_64)" in str(why_no_bfloat16(tmp_path, "x86_64"))
