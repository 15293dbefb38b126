"""Pickles of numbers, strings, containers and arrays, without the danger of pickles.

Loading a pickle can call anything that can be imported. Here five names are known, and what stands
behind them is not NumPy but the stand-ins below, which look at what they are given: NumPy's own
would take a type whose flags say that bytes are addresses of objects.
"""

import io
import pickle
import reprlib

import numpy as np
from numpy.typing import NDArray

_TYPES = ("u1", "i4", "i8")


class UnsafePickleError(ValueError):
    """A pickle that asks for more than data, or is damaged."""


def load_arrays(data: bytes) -> object:
    """Return what a pickle holds; Python 2's strings become bytes.

    Raises:
        UnsafePickleError: if it holds anything but plain data, or is damaged.
    """
    try:
        return _unwrapped(_DataUnpickler(io.BytesIO(data), encoding="bytes").load())
    except UnsafePickleError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise UnsafePickleError(f"a damaged pickle: {error!r}") from error


def _unwrapped(value: object) -> object:
    """Return `value` with arrays in the place of their stand-ins.

    Of containers only an outermost dictionary is looked into, as CIFAR's files are one: a hostile
    pickle nests a dictionary that has itself twice inside, forty deep, in a few hundred bytes.
    """
    if isinstance(value, dict):
        return {key: _array_of(item) for key, item in value.items()}
    return _array_of(value)


def _array_of(value: object) -> object:
    return value.array if isinstance(value, _Array) else value


class _Type:
    """Stands in for `numpy.dtype`."""

    def __init__(self, code: bytes | str, *flags: bool) -> None:
        text = code.decode() if isinstance(code, bytes) else code
        if not isinstance(text, str) or text not in _TYPES:
            raise UnsafePickleError(f"an array of type {reprlib.repr(text)}")
        self.dtype = np.dtype(f"<{text}")

    def __setstate__(self, state: tuple[object, ...]) -> None:
        if state[1] not in (b"<", b"|", "<", "|") or any(state[2:5]):
            raise UnsafePickleError("an array of big-endian numbers, or of records")


class _Array:
    """Stands in for `numpy.ndarray`."""

    array: NDArray[np.integer]

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, kind, is_fortran, raw = state
        if not (isinstance(shape, tuple) and isinstance(kind, _Type) and isinstance(raw, bytes)):
            raise UnsafePickleError("an array that is not made of a shape, a type and bytes")
        order = "F" if is_fortran else "C"
        self.array = np.frombuffer(raw, kind.dtype).reshape(shape, order=order)


def _new_array(kind: object, shape: object, code: object) -> _Array:
    """What pickles of arrays begin with; the shape given here is that of nothing."""
    return _Array()


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in a pickle for Python 2."""
    if encoding != "latin1":
        raise UnsafePickleError(f"bytes in the encoding {reprlib.repr(encoding)}")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1_bytes,
}


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Return a stand-in."""
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise UnsafePickleError(
                f"it asks for {module}.{name}, which data does not need: it may be hostile"
            ) from None

    def persistent_load(self, pid: object) -> object:
        """Refuse references to what lies outside."""
        raise UnsafePickleError("it refers to something outside")
