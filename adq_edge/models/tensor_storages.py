"""Makes the tensors of a torch file from its stored numbers, in both formats that `torch.save` writes."""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO, Any, Dict, NamedTuple, Sequence, Tuple

import torch

from adq_edge.core.errors import CheckpointError
from adq_edge.core.reading import LARGEST_INTEGER
from adq_edge.models.pickles import Calls, Name, Record, read_pickle

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_PICKLE_ENTRY = "data.pkl"
_MOST_DIMENSIONS = 32
_TYPES: Dict[str, torch.dtype] = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.storage.UntypedStorage": torch.uint8,
}


class Storage(NamedTuple):
    """The numbers that one or more tensors share."""

    content: torch.UntypedStorage
    dtype: torch.dtype

    @property
    def numbers(self) -> int:
        """The number of values."""
        return self.content.nbytes() // _bytes_of(self.dtype)


class ArchiveStorages:
    """The storages of a ZIP archive, an entry each.

    Args:
        archive: the archive, whose entries are not compressed.
        size: its size in bytes.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._left = size
        self._known: Dict[str, torch.UntypedStorage] = {}
        self._folder = ""

    def read(self) -> Any:
        """Return the content of the file.

        Raises:
            CheckpointError: the archive is of another kind, or a tensor does not fit its data.
        """
        names = [entry.filename for entry in self._archive.infolist()]
        found = [name for name in names if name.rpartition("/")[2] == _PICKLE_ENTRY]
        if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
            raise CheckpointError("is a TorchScript program, not a checkpoint", fix=SAVE_WEIGHTS)
        if len(found) != 1:
            raise CheckpointError("is an archive of another kind, without a checkpoint", fix=SAVE_WEIGHTS)
        self._folder = found[0][: -len(_PICKLE_ENTRY)]
        order = f"{self._folder}byteorder"
        if order in names and self._archive.read(order) != b"little":
            raise CheckpointError("was written by a big-endian machine", fix="Save it again on another one")
        content = self._archive.read(found[0])
        return read_pickle(io.BytesIO(content), len(content), CALLS, self._storage)

    def _storage(self, identifier: Any) -> Any:
        kind, key, numbers = _identified(identifier)
        if kind not in _TYPES:
            return Record(kind)
        if key not in self._known:
            entry = self._archive.getinfo(f"{self._folder}data/{key}")
            self._left -= entry.file_size
            if self._left < 0:
                raise ValueError("entries share bytes")
            content = bytearray(entry.file_size)
            with self._archive.open(entry) as file:
                if file.readinto(content) != len(content):  # type: ignore[attr-defined]
                    raise ValueError("an entry is truncated")
                file.read(1)  # compares the checksum at the end
            self._known[key] = _untyped(content)
        return _checked(Storage(self._known[key], _TYPES[kind]), numbers)


class StreamStorages:
    """The storages of the older format, a stream: pickles first, then the numbers of each storage.

    Args:
        file: the file, at its start.
        size: its size in bytes.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = self._left = size
        self._known: Dict[str, Storage] = {}

    def read(self) -> Any:
        """Return the content of the file.

        Raises:
            CheckpointError: a tensor does not fit its data.
        """
        if self._pickle() != _MAGIC or self._pickle() != _PROTOCOL:
            raise CheckpointError("is a pickle, but not one written by torch.save", fix=SAVE_WEIGHTS)
        if self._pickle().get("little_endian") is not True:
            raise CheckpointError("was written by a big-endian machine", fix="Save it again on another one")
        content = read_pickle(self._file, self._size, CALLS, self._storage)
        for key in self._pickle():
            self._fill(self._known[str(key)])
        return content

    def _pickle(self) -> Any:
        return read_pickle(self._file, self._size, {})

    def _storage(self, identifier: Any) -> Any:
        if isinstance(identifier, tuple) and identifier[:1] == ("module",):
            return identifier[1]  # a class with its source text
        *first, view = identifier
        kind, key, numbers = _identified(tuple(first))
        if kind not in _TYPES or view is not None:
            raise CheckpointError(f"holds a part of a {kind}, not plain numbers", fix=SAVE_WEIGHTS)
        if key not in self._known:
            bytes_needed = numbers * _bytes_of(_TYPES[kind])
            self._left -= bytes_needed
            if self._left < 0:
                raise ValueError("the storages are larger than the file")
            self._known[key] = Storage(_untyped(bytearray(bytes_needed)), _TYPES[kind])
        return _checked(self._known[key], numbers)

    def _fill(self, storage: Storage) -> None:
        numbers = int.from_bytes(self._file.read(8), "little", signed=True)
        if numbers != storage.numbers:
            raise ValueError("a storage has another size")
        content = self._file.read(storage.content.nbytes())
        if len(content) != storage.content.nbytes():
            raise ValueError("the file is truncated")
        storage.content.copy_(_untyped(bytearray(content)))


SAVE_WEIGHTS = (
    "Save its weights where it was trained: checkpoint = torch.load(FILE, weights_only=False); "
    "torch.save(checkpoint.state_dict(), 'weights.pth')"
)
"""The two lines that save the weights alone."""


def _bytes_of(dtype: torch.dtype) -> int:
    return torch.empty(0, dtype=dtype).element_size()


def _untyped(content: bytearray) -> torch.UntypedStorage:
    if not content:
        return torch.empty(0, dtype=torch.uint8).untyped_storage()
    return torch.frombuffer(content, dtype=torch.uint8).untyped_storage()


def _identified(identifier: Any) -> Tuple[str, str, int]:
    """Return type, key and number of values of a storage; its device does not matter."""
    word, kind, key, _, numbers = identifier
    if word != "storage" or not isinstance(kind, Name) or type(numbers) is not int or numbers < 0:
        raise ValueError("an unknown object outside of the pickle")
    return kind.name, str(key), numbers


def _checked(storage: Storage, numbers: int) -> Storage:
    if storage.numbers < numbers:
        raise ValueError("a storage is smaller than its number of values")
    return storage


def _tensor(storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Any:
    """Return a tensor of a storage; a record if its numbers have another type."""
    if not isinstance(storage, Storage):
        return Record(f"tensor of {getattr(storage, 'name', 'an unknown storage')}")
    whole = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise ValueError("a tensor of an impossible shape")
    if any(type(number) is not int or not 0 <= number <= LARGEST_INTEGER for number in whole):
        raise ValueError("a tensor of an impossible shape")
    if 0 in size:
        return torch.empty(list(size), dtype=storage.dtype)
    last = offset + sum((count - 1) * step for count, step in zip(size, stride))
    if last >= storage.numbers or math.prod(size) > storage.numbers:
        raise CheckpointError(f"a tensor of shape {list(size)} is larger than its data")
    return torch.empty(0, dtype=storage.dtype).set_(storage.content, offset, list(size), list(stride))


def _typed_tensor(
    storage: Any, offset: int, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Name, *_: Any
) -> Any:
    """Return a tensor of a storage without a type: those types that torch added later."""
    known = {f"torch.{str(kind).rpartition('.')[2]}": kind for kind in _TYPES.values()}
    if not isinstance(storage, Storage) or dtype.name not in known:
        return Record(f"tensor of {dtype.name}")
    return _tensor(Storage(storage.content, known[dtype.name]), offset, size, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


def _sizes(values: Sequence[int] = ()) -> Tuple[int, ...]:
    return tuple(values)


CALLS: Calls = {
    "torch.Size": _sizes,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
}
"""The functions in torch files that are computed: they make tensors of plain numbers."""
