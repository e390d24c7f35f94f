"""Read PyTorch's checkpoints without running any code in them.

The pickle's steps are followed (:mod:`bcdzoo.unpickle`), and the tensors of a state dict are noted (:class:`Stored`),
with sizes that are checked, and read on demand. Torch writes a zip archive; before version 1.6 it wrote the pickle and
then the numbers.
"""

import math
import zipfile
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable
from bcdzoo.unpickle import MOST_ARGUMENTS, Machine, Made

REMEDY = 'in the program that wrote it, save only the weights: torch.save(model.state_dict(), "weights.pth")'

_MOST_DIMENSIONS = 16
_MAGIC = 0x1950A86A20F9469CFC6C  # of torch's format before 1.6

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
    "QInt32Storage": torch.int32,  # other quantized ones have a byte for each number
}
_DTYPES = {f"torch.{name}": dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)}

_TENSORS = {"torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"}
_ODD = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor of the meta device, which has no numbers",
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch.nn.parameter.UninitializedParameter": "a parameter that was never initialized",
    "torch.nn.parameter.UninitializedBuffer": "a buffer that was never initialized",
}


class Storage(NamedTuple):
    """A block of numbers in a file: its key, their type and their count."""

    key: str
    dtype: torch.dtype
    numbers: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.numbers * self.dtype.itemsize


@dataclass(frozen=True)
class Stored:
    """A tensor that has not been read.

    Attributes:
        storage: Storage of its numbers; None for a tensor that cannot be read.
        dtype: Type of its numbers.
        size: Shape.
        stride: Stride of each dimension, in numbers.
        offset: Index of the first number in the storage.
        odd: Description of a tensor that cannot be read.
    """

    storage: Storage | None = None
    dtype: torch.dtype = torch.float32
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    offset: int = 0
    odd: str = ""


class Pickle:
    """A checkpoint written by torch.

    Args:
        file: Open file, which must stay open while tensors are read.
        where: Name of the file in error messages.

    Attributes:
        content: Tables, lists, text, numbers, :class:`Stored` and :class:`Made`.

    Raises:
        BcdzooError: It is damaged, or cannot be read without running code.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where = file, where
        self._size = file.seek(0, 2)
        self._read: dict[str, bytearray] = {}
        self._places: dict[str, int] = {}
        self._archive: zipfile.ZipFile | None = None
        file.seek(0)
        try:
            if zipfile.is_zipfile(file):
                self._open_zip()
            else:
                self._open_legacy()
        except BcdzooError:
            raise
        except Exception as error:  # a damaged or hostile program fails in many ways
            raise self._damaged(f"{type(error).__name__}, {printable(error, 200)}") from None

    def _damaged(self, reason: str) -> BcdzooError:
        return BcdzooError(f"{self._where} is not a plain state dict: {reason}; fetch it again, or {REMEDY}")

    def _open_zip(self) -> None:
        archive = self._archive = zipfile.ZipFile(self._file)
        names = archive.namelist()
        if sum(member.file_size for member in archive.infolist()) > self._size:
            raise self._damaged("its members are larger than the file, which torch never writes")
        programs = [name for name in names if name.split("/")[-1] == "data.pkl"]
        if len(programs) != 1:
            raise self._damaged(f"{len(programs)} members of the archive are called data.pkl")
        self._folder = programs[0].removesuffix("data.pkl")
        if self._folder + "constants.pkl" in names:
            raise BcdzooError(f"{self._where} is a TorchScript program, which is not run: {REMEDY}")
        if self._folder + "byteorder" in names and self._member(self._folder + "byteorder") != b"little":
            raise BcdzooError(f"{self._where} was written on a big-endian machine: save it on another one")
        self.content = self._plain(_Machine(), BytesIO(self._member(programs[0])))

    def _open_legacy(self) -> None:
        self._file.seek(0)  # is_zipfile moved it
        program = _Bounded(self._file, self._size)
        machine = _Machine()
        if self._plain(machine, program) != _MAGIC:
            raise self._damaged("it does not begin like a file written by torch")
        machine.run(program)  # the version
        machine.run(program)  # the machine it was written on
        self.content = self._plain(machine, program)
        keys = machine.run(program)
        place, self._places = self._file.tell(), {}
        for key in keys:
            self._places[key] = place
            place += 8 + machine.storages[key].nbytes

    def _plain(self, machine: "_Machine", program: Any) -> Any:
        content = machine.run(program)
        if machine.foreign:
            raise BcdzooError(
                f"{self._where} is not a plain state dict: it holds {printable(machine.foreign, 100)}, and reading "
                f"that would run code from the file; {REMEDY}"
            )
        return content

    def tensor(self, stored: Stored) -> Tensor:
        """Read a tensor.

        Raises:
            BcdzooError: Its numbers are missing or cannot be read.
        """
        if stored.storage is None:
            raise BcdzooError(f"{self._where} holds {stored.odd} among the weights: save plain, dense numbers")
        if not math.prod(stored.size):
            return torch.empty(stored.size, dtype=stored.dtype)
        try:
            numbers = torch.frombuffer(self._numbers(stored.storage), dtype=stored.dtype)
            return numbers.as_strided(stored.size, stored.stride, stored.offset)
        except (*_ZIP_ERRORS, KeyError, ValueError, RuntimeError) as error:
            raise self._damaged(printable(error, 200)) from None

    def _numbers(self, storage: Storage) -> bytearray:
        if storage.key not in self._read:
            if self._archive is not None:
                numbers = bytearray(self._member(f"{self._folder}data/{storage.key}"))
            else:
                self._file.seek(self._places[storage.key])
                count = int.from_bytes(self._file.read(8), "little")
                numbers = bytearray(
                    self._file.read(min(storage.nbytes, self._size)) if count == storage.numbers else b""
                )
            if len(numbers) < storage.nbytes:
                raise ValueError(f"{storage.nbytes} bytes of numbers are expected, but there are {len(numbers)}")
            self._read[storage.key] = numbers
        return self._read[storage.key]

    def _member(self, name: str) -> bytes:
        assert self._archive is not None
        member = self._archive.getinfo(name)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise self._damaged("it is compressed or encrypted, which torch's files are not")
        return self._archive.read(member)


_ZIP_ERRORS = (zipfile.BadZipFile, OSError, NotImplementedError)


class _Bounded:
    """A file whose reads are limited to its size, because memory is allocated for what is requested."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.tell, self.readline = file.tell, file.readline

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size))


class _Machine(Machine):
    """Notes tensors.

    Attributes:
        storages: Storages of all tensors, by key.
    """

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[str, Storage] = {}

    def make(self, made: Any, arguments: Any) -> Any:
        name = made.name if isinstance(made, Made) else ""
        if len(arguments) > MOST_ARGUMENTS:
            return Made(name)
        if name == "torch.Size":
            return tuple(arguments[0]) if len(arguments[0]) <= _MOST_DIMENSIONS else Made(name)
        if name in (
            "torch._utils._rebuild_tensor",
            "torch._utils._rebuild_tensor_v2",
            "torch._utils._rebuild_tensor_v3",
        ):
            return _stored(name, *arguments)
        if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return arguments[0]
        if name == "torch._tensor._rebuild_from_type_v2":
            inner, kind, inner_arguments = arguments[:3]
            if kind.name in _TENSORS:
                return self.make(inner, inner_arguments)
            return Stored(odd=f"a tensor of the type {printable(kind.name, 100)}")
        if name in _ODD:
            return Stored(odd=_ODD[name])
        if name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")):
            return Stored(odd="a tensor of an unusual kind")
        return super().make(made, arguments)

    def storage(self, identity: Any) -> Storage:
        if (
            len(identity) not in (5, 6)
            or identity[0] != "storage"
            or not isinstance(identity[2], str)
            or any(identity[5:])
        ):
            raise ValueError("an unknown kind of numbers")
        kind, key, count = identity[1], identity[2], identity[4]
        dtype = _STORAGES.get(kind.name.split(".")[-1], torch.uint8)
        storage = Storage(key, dtype, _whole(count))
        return self.storages.setdefault(key, storage)


def _whole(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**62:
        raise ValueError("a size is not a sensible number")
    return number


def _stored(function: str, storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> Stored:
    """Describe a tensor, after checking that it lies within its storage."""
    if not isinstance(storage, Storage) or len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise ValueError("a tensor is not described as torch does")
    size, stride = tuple(map(_whole, size)), tuple(map(_whole, stride))
    dtype = storage.dtype
    if function.endswith("v3"):
        dtype = _DTYPES[more[2].name]
    elif len(more) > 2 and more[2]:
        return Stored(odd="a conjugated or negated view")
    count = storage.nbytes // dtype.itemsize
    last = _whole(offset) + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    numel = math.prod(size)
    if numel > count or (numel and last >= count):
        raise ValueError(f"a tensor has more numbers ({printable(list(size), 60)}) than are stored for it ({count})")
    return Stored(storage, dtype, size, stride, offset)
