"""A pytest plugin, `-p without_torch`: whatever imports torch is skipped, as on a board that has none."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pytest


class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            pytest.skip("needs torch", allow_module_level=True)


sys.meta_path.insert(0, NoTorch())
