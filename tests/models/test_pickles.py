from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adq_edge.core.errors import CheckpointError
from adq_edge.models.pickles import Name, Record, read_pickle
from adq_edge.models.torch_files import read_plain_torch_file, read_torch_file

KEYS = st.one_of(st.text(max_size=5), st.integers(-(2**63) + 1, 2**63 - 1), st.booleans(), st.none())
PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(max_size=20),
        st.binary(max_size=20),
        st.frozensets(KEYS, max_size=4),
    ),
    lambda inside: st.one_of(
        st.lists(inside, max_size=4),
        st.lists(inside, max_size=4).map(tuple),
        st.dictionaries(KEYS, inside, max_size=4),
        st.dictionaries(KEYS, inside, max_size=4).map(collections.OrderedDict),
        st.sets(KEYS, max_size=4),
    ),
    max_leaves=12,
)

DAMAGE = (CheckpointError, LookupError, ValueError, TypeError, AttributeError)
"""What the reader of torch files turns into one line; neither MemoryError nor RecursionError."""


def read(content: bytes) -> Any:
    return read_pickle(io.BytesIO(content), len(content), {})


class Call:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(value=PLAIN, protocol=st.integers(2, 5))
def test_plain_values_are_read_as_python_reads_them(value: Any, protocol: int):
    content = pickle.dumps(value, protocol)
    if b"_codecs" not in content and b"bytes" not in content:  # how protocol 2 writes bytes
        assert read(content) == pickle.loads(content)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(value=PLAIN, seed=st.integers(0, 2**32))
def test_damaged_pickles_raise_an_exception_or_are_read(value: Any, seed: int):
    chance = random.Random(seed)
    content = bytearray(pickle.dumps({"value": value, "call": Call(os.getpid)}, chance.randrange(2, 6)))
    for _ in range(chance.randrange(1, 6)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    with contextlib.suppress(*DAMAGE):
        read(bytes(content))


@pytest.mark.parametrize("zipped", [True, False])
def test_classes_and_calls_become_records_and_are_not_run(tmp_path: Path, zipped: bool):
    made = tmp_path / "made"
    content = {
        "call": Call(os.mkdir, str(made)),
        "path": made,
        "kind": collections.Counter,
        "weight": torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).T),
    }
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    found = read_torch_file(tmp_path / "c.pt")
    assert not made.exists()
    assert isinstance(found["call"], Record)
    assert found["call"].name.endswith("mkdir")
    assert found["call"].arguments == (str(made),)
    assert isinstance(found["path"], Record)
    assert isinstance(found["kind"], Name)
    assert found["kind"].name == "collections.Counter"
    assert torch.equal(found["weight"], torch.arange(6.0).reshape(2, 3).T)
    with pytest.raises(CheckpointError, match=r"mkdir, which is never run"):
        read_plain_torch_file(tmp_path / "c.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_read_as_torch_reads_them(tmp_path: Path, zipped: bool):
    base = torch.randn(4, 5)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16)
    content = {
        "shared": [base, base[1:, ::2], base.T],
        "kinds": {str(kind): (base * 9).to(kind) for kind in (*kinds, torch.int8, torch.uint8, torch.bool)},
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(3),
        "size": base.shape,
    }
    torch.save(content, tmp_path / "c.pt", _use_new_zipfile_serialization=zipped)
    found, expected = read_torch_file(tmp_path / "c.pt"), torch.load(tmp_path / "c.pt", weights_only=True)
    assert found["size"] == tuple(expected["size"])
    pairs = [*zip(found["shared"], expected["shared"])]
    pairs += [(found["kinds"][name], value) for name, value in expected["kinds"].items()]
    pairs += [(found[name], expected[name]) for name in ("empty", "number")]
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + b"(" * 10 + b"t" * 9 + b"." + b"}" * 5,  # no value
        b"\x80\x02}" + b")\x85" + b"\x85" * 100_000 + b"K\x01s.",  # a key of 100,000 nested tuples
        b"\x80\x02\x8d" + b"\xff" * 7 + b"\x7f" + b"x.",  # a text of 2 ** 63 bytes
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # the memory at 2 ** 31
        b"\x80\x02\x82\x01.",  # an extension
        b"\x80\x02Qx.",  # an object outside of the pickle
    ],
    ids=["stack", "nested key", "long text", "memory", "extension", "outside"],
)
def test_hostile_pickles_take_neither_memory_nor_the_stack(content: bytes):
    with contextlib.suppress(*DAMAGE):
        assert read(content) is None


def test_pickle_that_copies_a_list_many_times_is_refused():
    many = b"\x80\x02]q\x00(" + b"K\x01" * 1000 + b"e"
    copies = b"c__builtin__\nset\nh\x00\x85R0" * 5000
    with pytest.raises(CheckpointError, match="too many values"):
        read(many + copies + b".")
