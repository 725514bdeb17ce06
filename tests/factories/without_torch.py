"""A pytest plugin, `-p without_torch`: skip the tests that import torch, as on a board without it."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pytest


class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            pytest.skip("needs torch", allow_module_level=True)


sys.meta_path.insert(0, NoTorch())
