"""A pytest plugin, `-p without_torch`: skip the tests that import torch, as on a board without it."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pytest


class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        is_look_up = sys._getframe(2).f_code.co_name == "find_spec"  # of importlib.util, as doctor does
        if name == "torch" and not is_look_up:
            pytest.skip("needs torch", allow_module_level=True)


sys.meta_path.insert(0, NoTorch())
