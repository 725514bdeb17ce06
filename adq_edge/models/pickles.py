"""Reads pickles as plain data: no class or function in them is imported or called.

Python's own reader imports every name in a pickle and calls what the pickle says. This one interprets the
same operations, and keeps a `Record` of the name, the arguments and the state instead.
"""

from __future__ import annotations

import pickletools
from typing import IO, Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple

from adq_edge.core.errors import CheckpointError
from adq_edge.core.reading import LARGEST_INTEGER

MOST_OPERATIONS = 2 * 10**6
"""Maximum number of operations of a pickle, and of values that it copies; a tensor takes a few dozen."""
_LONGEST_LINE = 2**16
"""Maximum length in bytes of a name or number that a pickle writes as text."""

_LONGEST_KEY = 16
"""Maximum number of values of a tuple that is a key."""

Calls = Mapping[str, Callable[..., Any]]
"""The known functions by name; each takes the arguments of the call and returns a plain value."""


class Name:
    """A class or function in a pickle, which was not imported.

    Attributes:
        name: module and name, separated by a dot.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Record:
    """An object in a pickle whose class was not imported, or a call that was not made.

    Attributes:
        name: module and name of the class or function, separated by a dot.
        arguments: the arguments of the call.
        state: what the object would have been restored from; None if there is nothing.
        entries: the entries of a dictionary with a class of its own.
        values: the values of a list or set with a class of its own.
    """

    def __init__(self, name: str, arguments: Tuple[Any, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.state: Any = None
        self.entries: Dict[Any, Any] = {}
        self.values: List[Any] = []

    def __repr__(self) -> str:
        return f"a {self.name}"

    @property
    def fields(self) -> Dict[str, Any]:
        """The attributes of the object, or the entries if it is a dictionary."""
        state = self.state[0] if isinstance(self.state, tuple) and self.state else self.state
        return {**self.entries, **(state if isinstance(state, dict) else {})}


class _Mark:
    """The start of a group of values on the stack."""


def read_pickle(
    file: IO[bytes], size: int, calls: Calls, persistent: Optional[Callable[[Any], Any]] = None
) -> Any:
    """Read one pickle and leave the file behind it.

    Args:
        file: the file, at the start of the pickle.
        size: the number of bytes that the file holds in total.
        calls: the functions that are computed instead of recorded.
        persistent: returns the object for the identifier of one outside of the pickle.

    Raises:
        CheckpointError: the pickle has too many operations; also the errors of `calls` and `persistent`.
        Exception: nearly any other kind, for a damaged pickle.
    """
    return _Machine(calls, persistent).run(_Bounded(file, size))


class _Bounded:
    """A file whose reads reserve no more memory than it has bytes left."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._size = size

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))

    def readline(self) -> bytes:
        return self._file.readline(_LONGEST_LINE)

    def tell(self) -> int:
        return self._file.tell()


class _Machine:
    """The stack and the memory of a pickle; every operation takes a bounded time, without recursion."""

    def __init__(self, calls: Calls, persistent: Optional[Callable[[Any], Any]]) -> None:
        self._calls = calls
        self._persistent = persistent
        self._stack: List[Any] = []
        self._memo: Dict[int, Any] = {}
        self._spent = 0

    def run(self, file: _Bounded) -> Any:
        """Interpret the operations up to the end of the pickle; return its value."""
        for opcode, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]  # needs only these methods
            self._spend(1)
            name = opcode.name
            if name in _MEMO_OPERATIONS:
                self._remember_or_recall(name, argument)
            elif name in _LITERALS:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            else:
                getattr(self, f"_{name.lower()}")(argument)
        (value,) = self._stack
        return value

    def _spend(self, count: int) -> None:
        self._spent += count
        if self._spent > MOST_OPERATIONS:
            raise CheckpointError("holds too many values", fix="Give a trained checkpoint")

    def _remember_or_recall(self, name: str, argument: Any) -> None:
        if name.endswith("GET"):
            self._stack.append(self._memo[int(argument)])
        else:
            self._memo[len(self._memo) if name == "MEMOIZE" else int(argument)] = self._stack[-1]

    def _group(self) -> List[Any]:
        """Remove the values above the last mark from the stack, and the mark; return the values."""
        start = len(self._stack) - 1
        while self._stack[start] is not _Mark:
            self._spend(1)
            start -= 1  # below 0, Python raises IndexError: the pickle is damaged
        values = self._stack[start + 1 :]
        del self._stack[start:]
        return values

    # Operations of the stack
    def _proto(self, argument: Any) -> None:
        pass

    _frame = _stop = _readonly_buffer = _proto

    def _mark(self, argument: Any) -> None:
        self._stack.append(_Mark)

    def _pop(self, argument: Any) -> None:
        self._stack.pop()

    def _pop_mark(self, argument: Any) -> None:
        self._group()

    def _dup(self, argument: Any) -> None:
        self._stack.append(self._stack[-1])

    # Containers
    def _tuple(self, argument: Any) -> None:
        self._stack.append(tuple(self._group()))

    def _tuple1(self, argument: Any) -> None:
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def _tuple2(self, argument: Any) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def _tuple3(self, argument: Any) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    def _list(self, argument: Any) -> None:
        self._stack.append(self._group())

    def _dict(self, argument: Any) -> None:
        values = self._group()
        self._stack.append({})
        self._set(values)

    def _frozenset(self, argument: Any) -> None:
        self._stack.append(frozenset(map(_hashable, self._group())))

    def _append(self, argument: Any) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _appends(self, argument: Any) -> None:
        self._extend(self._group())

    def _extend(self, values: List[Any]) -> None:
        target = self._stack[-1]
        (target.values if isinstance(target, Record) else _of(list, target)).extend(values)

    def _setitem(self, argument: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _setitems(self, argument: Any) -> None:
        self._set(self._group())

    def _set(self, values: List[Any]) -> None:
        target = self._stack[-1]
        pairs = zip(map(_hashable, values[::2]), values[1::2])
        (target.entries if isinstance(target, Record) else _of(dict, target)).update(pairs)

    def _additems(self, argument: Any) -> None:
        values = self._group()
        target = self._stack[-1]
        if isinstance(target, Record):
            target.values.extend(values)
        else:
            _of(set, target).update(map(_hashable, values))

    # Classes, functions and objects
    def _global(self, argument: Any) -> None:
        self._stack.append(Name(str(argument).replace(" ", ".", 1)))

    def _stack_global(self, argument: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(Name(f"{_of(str, module)}.{_of(str, name)}"))

    def _reduce(self, argument: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._call(function, _of(tuple, arguments)))

    def _newobj(self, argument: Any) -> None:
        self._reduce(argument)

    def _newobj_ex(self, argument: Any) -> None:
        named, arguments, kind = self._stack.pop(), self._stack.pop(), self._stack.pop()
        del named
        self._stack.append(self._call(kind, _of(tuple, arguments)))

    def _inst(self, argument: Any) -> None:
        arguments = tuple(self._group())
        self._stack.append(self._call(Name(str(argument).replace(" ", ".", 1)), arguments))

    def _obj(self, argument: Any) -> None:
        kind, *arguments = self._group()
        self._stack.append(self._call(kind, tuple(arguments)))

    def _call(self, function: Any, arguments: Tuple[Any, ...]) -> Any:
        """Return the result of a known function, or a record of the call."""
        name = function.name if isinstance(function, (Name, Record)) else type(function).__name__
        if name in _RECONSTRUCTORS and arguments and isinstance(arguments[0], Name):
            return Record(arguments[0].name, arguments[1:])
        self._spend(sum(len(value) for value in arguments if isinstance(value, (list, tuple, dict, set))))
        known = (self._calls.get(name) or _CONTAINERS.get(name)) if isinstance(function, Name) else None
        return Record(name, arguments) if known is None else known(*arguments)

    def _build(self, argument: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Record):
            self._stack[-1].state = state

    def _binpersid(self, argument: Any) -> None:
        self._stack.append(self._outside(self._stack.pop()))

    def _persid(self, argument: Any) -> None:
        self._stack.append(self._outside(argument))

    def _outside(self, identifier: Any) -> Any:
        if self._persistent is None:
            raise ValueError("the pickle names an object outside of it")
        return self._persistent(identifier)


def _dictionary(pairs: Sequence[Tuple[Any, Any]] = ()) -> Dict[Any, Any]:
    return {_hashable(key): value for key, value in pairs}


def _empty_dictionary(factory: Any = None) -> Dict[Any, Any]:
    return {}  # the entries follow


def _members(values: Sequence[Any] = ()) -> Set[Any]:
    return set(map(_hashable, values))


def _fixed_members(values: Sequence[Any] = ()) -> FrozenSet[Any]:
    return frozenset(map(_hashable, values))


_CONTAINERS: Calls = {
    "collections.OrderedDict": _dictionary,
    "collections.defaultdict": _empty_dictionary,
    "__builtin__.set": _members,
    "__builtin__.frozenset": _fixed_members,
    "builtins.frozenset": _fixed_members,
    "builtins.set": _members,
}
"""The calls that make the containers of Python's library."""
_RECONSTRUCTORS = frozenset(
    ("copy_reg._reconstructor", "copyreg._reconstructor", "copyreg.__newobj__", "copy_reg.__newobj__")
)
_MEMO_OPERATIONS = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"))
_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_LITERALS = frozenset(
    f"{prefix}{kind}"
    for kind, prefixes in {
        "INT": ("", "BIN"),
        "INT1": ("BIN",),
        "INT2": ("BIN",),
        "LONG": ("",),
        "LONG1": ("",),
        "LONG4": ("",),
        "FLOAT": ("", "BIN"),
        "STRING": ("", "BIN", "SHORT_BIN"),
        "UNICODE": ("", "BIN", "SHORT_BIN"),
        "UNICODE8": ("BIN",),
        "BYTES": ("BIN", "SHORT_BIN"),
        "BYTES8": ("BIN",),
        "BYTEARRAY8": ("",),
    }.items()
    for prefix in prefixes
)
"""The operations that push their own argument: numbers, texts and bytes."""


def _of(kind: type, value: Any) -> Any:
    """Return a value of exactly this type.

    Raises:
        ValueError: the value has another type.
    """
    if type(value) is not kind:
        raise ValueError(f"a {type(value).__name__} instead of a {kind.__name__}")
    return value


def _hashable(value: Any) -> Any:
    """Return a value that may be a key: Python would compute the hash of nested tuples recursively.

    Raises:
        ValueError: the value is a long tuple, a container of containers, or an integer of more than 64 bits.
    """
    parts: Sequence[Any] = value if type(value) is tuple else (value,)
    if len(parts) > _LONGEST_KEY or any(type(part) in (tuple, frozenset) for part in parts):
        raise ValueError("a nested or long key")
    if any(isinstance(part, int) and abs(part) > LARGEST_INTEGER for part in parts):
        raise ValueError("a key of more than 64 bits")  # such integers can be made to have equal hashes
    return value
