"""Stores of frozen features: one float32 record for each image of a training."""

from __future__ import annotations

import abc
from typing import Optional

import numpy as np


class FeatureStore(abc.ABC):
    """Records of equal length by number."""

    @abc.abstractmethod
    def holds(self, number: int) -> bool:
        """Return True if `read` returns a record for this number."""

    @abc.abstractmethod
    def read(self, number: int) -> np.ndarray:
        """Return the record, float32 `[values]`."""

    @abc.abstractmethod
    def write(self, number: int, record: np.ndarray) -> None:
        """Keep a record, float32 `[values]`."""


class MemoryStore(FeatureStore):
    """Records in memory.

    Args:
        count: number of records.
        values: values of a record.
    """

    def __init__(self, count: int, values: int) -> None:
        self._records = np.empty((count, values), np.float32)  # takes memory when it is written to
        self._held = np.zeros(count, bool)

    def holds(self, number: int) -> bool:
        """Return True if the record was written."""
        return bool(self._held[number])

    def read(self, number: int) -> np.ndarray:
        """Return the record."""
        record: np.ndarray = self._records[number]
        return record

    def write(self, number: int, record: np.ndarray) -> None:
        """Copy the record."""
        self._records[number] = record
        self._held[number] = True


def open_store(count: int, values: int, memory: int) -> Optional[FeatureStore]:
    """Return a store in memory if its records fit, else None.

    Args:
        count: number of records.
        values: values of a record.
        memory: bytes that the records may take.
    """
    return MemoryStore(count, values) if 4 * count * values <= memory else None
