"""Small checkpoints that mean harm, or are not what they seem: each function writes one."""

import gzip
import io
import json
import os
import pickle
import socket
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from tests.weights import mxnet

STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"  # four numbers
)
PROTOCOL = b"\x80\x02"


def archive(path: Path, program: bytes, members: Mapping[str, bytes] = {}, method: int = zipfile.ZIP_STORED) -> None:
    """A file as torch writes it: a pickle's program, and sixteen bytes for the storage 0."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("archive/data.pkl", program)
        for name, content in ({"0": bytes(16)} | dict(members)).items():
            file.writestr(f"archive/data/{name}", content)


def tensor(size: bytes, stride: bytes, storage: bytes = STORAGE) -> bytes:
    """The steps that make a table with one tensor."""
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return PROTOCOL + b"}X\x01\x00\x00\x00w" + rebuild + storage + b"K\x00" + size + stride + b"\x89}tRs."


def long_integer(number: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", number)


def raw(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def saved(content: Any, **options: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(content() if callable(content) else content, path, **options)

    return write


def called(function: bytes, arguments: bytes) -> Callable[[Path], None]:
    """A state dict beside which a function would be called."""
    steps = b"X\x01\x00\x00\x00x" + b"c" + function + b"\n(" + arguments + b"tRs."
    return lambda path: archive(path, PROTOCOL + b"}" + steps)


def doubled(path: Path) -> None:
    """A tuple of two tuples of two tuples …, whose hash takes for ever, as a key."""
    archive(path, PROTOCOL + b"}" + b")" + b"2\x86" * 60 + b"Ns.")


def copied_again_and_again(path: Path) -> None:
    pairs = b"(" + b"]q\x01(K\x01K\x02e" * 20_000 + b"l" + b"q\x00" + b"0"
    archive(path, PROTOCOL + b"}" + pairs + b"(" + b"ccollections\nOrderedDict\n(h\x00tR" * 20_000 + b"l0.")


def deep(path: Path) -> None:
    archive(path, PROTOCOL + b"]" * 30_000 + b"a" * 29_999 + b".")


def deep_tables(path: Path) -> None:
    archive(path, PROTOCOL + b"}" + b"X\x01\x00\x00\x00a}" * 20_000 + b"s" * 20_000 + b".")


def endless(path: Path) -> None:
    archive(path, PROTOCOL + b"N0" * 1_100_000 + b"N.")


def one_byte_a_terabyte(path: Path) -> None:
    path.write_bytes(PROTOCOL + b"\x8e" + struct.pack("<Q", 1 << 40) + b"x")


def memo_far_away(path: Path) -> None:
    path.write_bytes(PROTOCOL + b"Nr\xff\xff\xff\xff.")


def deflated(path: Path) -> None:
    archive(path, tensor(b"K\x04\x85", b"K\x01\x85"), {"0": bytes(20 << 20)}, zipfile.ZIP_DEFLATED)


def overlapping(path: Path) -> None:
    """Two names for the same bytes, which together are more than the file has."""
    archive(path, tensor(b"K\x04\x85", b"K\x01\x85"), {"0": bytes(100_000), "1": b""})
    content = path.read_bytes()
    entry = content.rindex(b"PK\x01\x02")
    first = content.index(b"archive/data/0") - 30
    forged = bytearray(content)
    forged[entry + 20 : entry + 28] = struct.pack("<II", 100_000, 100_000)
    forged[entry + 42 : entry + 46] = struct.pack("<I", first)
    path.write_bytes(bytes(forged))


def legacy_without_numbers(path: Path) -> None:
    file = io.BytesIO()
    torch.save({"w": torch.zeros(1 << 10)}, file, _use_new_zipfile_serialization=False)
    path.write_bytes(file.getvalue()[:-100])


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("w.pth", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))


def lying_bomb(path: Path) -> None:
    """A bomb whose stated size is small."""
    bomb(path)
    content = bytearray(path.read_bytes())
    for mark, place in (b"PK\x01\x02", 24), (b"PK\x03\x04", 22):
        start = content.index(mark) + place
        content[start : start + 4] = struct.pack("<I", 100)
    path.write_bytes(bytes(content))


def many_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for number in range(20_000):
            file.writestr(f"{number}.pth", b"")


def zipped(name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as file:
            file.writestr(name, content)

    return write


def flagged(place: int, value: int) -> Callable[[Path], None]:
    """A zip archive whose member is said to be encrypted, or compressed by an unknown method."""

    def write(path: Path) -> None:
        zipped("w.pth", b"some bytes")(path)
        content = bytearray(path.read_bytes())
        for mark, start in (b"PK\x01\x02", place + 2), (b"PK\x03\x04", place):
            content[content.index(mark) + start] = value
        path.write_bytes(bytes(content))

    return write


def header(text: Any, length: int | None = None) -> Callable[[Path], None]:
    """A safetensors file of a header alone."""
    content = text if isinstance(text, bytes) else json.dumps(text).encode()
    return raw(struct.pack("<Q", length or len(content)) + content)


def huge_header(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100_000_000) + b"{")
        file.truncate(100_000_100)


def nested_groups(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        group: h5py.Group = file
        for _ in range(2000):
            group = group.create_group("g")


def many_groups(path: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(6000):
            file.create_group(str(number))


def groups_in_a_circle(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("a")
        for number in range(300):
            group[str(number)] = group


def shared_numbers(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a/k"] = np.ones(100_000, np.float32)
        for number in range(1000):
            file[f"a{number}/k"] = file["a/k"]


def compressed_numbers(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a/kernel:0", (1 << 24,), "f4", chunks=(1 << 20,), compression="gzip")[:] = 0


def long_group_name(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["k" * 60_000] = np.ones(1, np.float32)


def params(*arrays: bytes, names: Any = None, count: int | None = None, end: bytes = b"") -> Callable[[Path], None]:
    """MXNet's parameters: arrays, and their names if they are others than a, b, c."""
    called = mxnet.names("abcdef"[: len(arrays)] if names is None else names)
    head = struct.pack("<QQQ", 0x112, 0, len(arrays) if count is None else count)
    return raw(head + b"".join(arrays) + called + end)


ONE = mxnet.array(np.ones(3, np.float32))
DENSE = struct.pack("<Ii", 0xF993FAC9, 0)


def dense(*shape: int, code: int = 0, dimensions: int | None = None) -> bytes:
    """An array without its numbers."""
    dimensions = len(shape) if dimensions is None else dimensions
    return DENSE + struct.pack(f"<I{len(shape)}qiii", dimensions, *shape, 1, 0, code)


def tarred(
    *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, link: str = "", size: int | None = None
) -> Callable[[Path], None]:
    """A tar archive, whose last member is of some kind, or says another size."""

    def write(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            for number, (name, content) in enumerate(members, 1):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                if number == len(members):
                    member.type, member.linkname = kind, link
                    member.size = len(content) if size is None else size
                archive.fileobj.write(member.tobuf())
                archive.fileobj.write(content + bytes(-len(content) % 512))

    return write


def gzipped_bomb(path: Path) -> None:
    head = tarfile.TarInfo("0-0-weights.bin")
    head.size = 1 << 33
    with gzip.open(path, "wb", 1) as file:
        file.write(head.tobuf())
        for _ in range(256):
            file.write(bytes(1 << 20))


def members_without_end(path: Path) -> None:
    with path.open("wb") as file:
        for number in range(100_000):
            file.write(tarfile.TarInfo(f"{number}.bin").tobuf())


def folders_without_end(path: Path) -> None:
    member = tarfile.TarInfo("a")
    member.type = tarfile.DIRTYPE
    path.write_bytes(member.tobuf() * 50_000)


def digits_without_end(path: Path) -> None:
    """An extended header that Python's reader looks through again and again."""
    member = tarfile.TarInfo("x")
    member.type, member.size = b"x", 1 << 21
    path.write_bytes(member.tobuf() + b"1" * (1 << 21) + tarfile.TarInfo("0-0-weights.bin").tobuf() + bytes(1024))


def headers_in_headers(path: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type = b"x"
    path.write_bytes(member.tobuf() * 50_000 + bytes(1024))


def many_zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for number in range(6000):
            file.writestr(f"a/{number}/0-0-weights.bin", b"")


def zipped_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for number in range(8):
            with file.open(f"0-{number}-weights.bin", "w") as member:
                for _ in range(16):
                    member.write(bytes(1 << 20))


def lying_zipped_bomb(path: Path) -> None:
    zipped_bomb(path)
    content = bytearray(path.read_bytes())
    for mark, place in (b"PK\x01\x02", 24), (b"PK\x03\x04", 22):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + place : start + place + 4] = struct.pack("<I", 100)
    path.write_bytes(bytes(content))


def folder_of(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        make(path / name)

    return write


def files_without_end(path: Path) -> None:
    path.mkdir()
    for number in range(5001):
        (path / f"{number}.bin").touch()


def large_file(path: Path) -> None:
    path.mkdir()
    with (path / "0-0-weights.bin").open("wb") as file:
        file.truncate(1 << 40)


ONNX = b"\x08\x08\x12\x01x\x3a"
"""How an ONNX file begins that goes on with a graph."""


def in_groups(path: Path) -> None:
    """Graphs in nodes in graphs."""
    content = b""
    for _ in range(2000):
        for field in 0x32, 0x2A, 0x0A, 0x3A:  # an attribute's graph, a node's attribute, a graph's node, a graph
            size, length = len(content), b""
            while size > 127:
                length, size = length + bytes([size & 127 | 128]), size >> 7
            content = bytes([field]) + length + bytes([size]) + content
    path.write_bytes(b"\x08\x08" + content)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    # name: what writes it, and what is said
    "os.system": (called(b"os\nsystem", b"X\x04\x00\x00\x00true"), "would run code"),
    "eval": (called(b"builtins\neval", b"X\x01\x00\x00\x001"), "would run code"),
    "getattr": (called(b"builtins\ngetattr", b""), "would run code"),
    "a module of somebody's": (saved(lambda: torch.nn.Sequential(torch.nn.Linear(1, 1))), "no table of tensors"),
    "bytearray of a terabyte": (called(b"builtins\nbytearray", long_integer(1 << 40)), "no table of tensors"),
    "tensor of a terabyte": (called(b"torch\nTensor", long_integer(1 << 40)), "no table of tensors"),
    "storage of a terabyte": (called(b"torch\nFloatStorage", long_integer(1 << 40)), "no table of tensors"),
    "scalar of a terabyte": (
        called(b"numpy.core.multiarray\nscalar", b"cnumpy\ndtype\n(X\x0b\x00\x00\x00V9999999999tR"),
        "no table of tensors",
    ),
    "stretched tensor": (
        lambda path: archive(path, tensor(long_integer(1 << 40) + b"\x85", b"K\x00\x85")),
        "more numbers",
    ),
    "negative size": (
        lambda path: archive(path, tensor(b"J\xff\xff\xff\xff\x85", b"K\x01\x85")),
        "not a sensible number",
    ),
    "beyond the storage": (lambda path: archive(path, tensor(b"K\x04\x85", b"K\x09\x85")), "more numbers"),
    "storage that is not there": (
        lambda path: archive(path, tensor(b"K\x04\x85", b"K\x01\x85", STORAGE.replace(b"\x000X", b"\x001X"))),
        "not a plain state dict",
    ),
    "storage that says too much": (
        lambda path: archive(path, tensor(b"M\x00\x40\x85", b"K\x01\x85", STORAGE.replace(b"K\x04", b"M\x00\x40"))),
        "65536 bytes of numbers are expected, but there are 16",
    ),
    "doubled tuples": (doubled, "no table of tensors|not text"),
    "lists copied": (copied_again_and_again, "steps"),
    "deep lists": (deep, "no table of tensors"),
    "deep tables": (deep_tables, "no table of tensors"),
    "endless": (endless, "steps"),
    "text of a terabyte": (one_byte_a_terabyte, "not a plain state dict"),
    "memo far away": (memo_far_away, "not a plain state dict"),
    "deflated storage": (deflated, "larger than the file"),
    "overlapping members": (overlapping, "larger than the file"),
    "legacy, cut": (legacy_without_numbers, "bytes of numbers are expected"),
    "bomb": (bomb, "weights do not compress that well"),
    "lying bomb": (lying_bomb, "damaged zip|not a plain state dict"),
    "many members": (many_members, "expected one .pth file in the archive, found .* and 19980 more"),
    "zip in a zip": (zipped("w.pth", b"PK\x05\x06" + bytes(18)), "not a plain state dict"),
    "encrypted": (flagged(6, 1), "is encrypted"),
    "unknown compression": (flagged(8, 99), "compressed by an unsupported method"),
    "lzma": (zipped("w.pth", bytes(1000), zipfile.ZIP_LZMA), "compressed by an unsupported method"),
    "empty zip": (raw(b"PK\x05\x06" + bytes(18)), "found nothing"),
    "gzip": (raw(gzip.compress(bytes(1 << 20))), "compressed by gzip"),
    "empty": (lambda path: path.touch(), "is empty"),
    "folder": (lambda path: path.mkdir(), "a folder, not a file of weights"),
    "pipe": (os.mkfifo, "a named pipe, not a regular file"),
    "socket": (listening, "is a socket, not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device, not a regular file"),
    "dangling link": (lambda path: path.symlink_to("nowhere"), "no file"),
    "header of 100 MB": (huge_header, "its header has 100000000 bytes"),
    "header of all there is": (header(b"{}", 2**63), "its header has"),
    "deep header": (header(b'{"a":' * 100_000), "damaged safetensors"),
    "tensors beyond the file": (
        header({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        "damaged safetensors",
    ),
    "unknown type of numbers": (header({"w": {"dtype": "F9", "shape": [0], "data_offsets": [0, 0]}}), "damaged safe"),
    "nested groups": (nested_groups, "more or deeper groups"),
    "many groups": (many_groups, "more or deeper groups"),
    "groups in a circle": (groups_in_a_circle, "more or deeper groups"),
    "shared numbers": (shared_numbers, "is larger than the file"),
    "compressed numbers": (compressed_numbers, "not a plain array of numbers"),
    "long group name": (long_group_name, "a name in it has 60000 characters"),
    "long key": (saved({"k" * 1_000_000: torch.zeros(1)}), "a name of 1000000 characters"),
    "keys that are no text": (saved({1: torch.zeros(1), None: torch.zeros(1)}), "keys that are not text"),
    "only a list": (saved([torch.zeros(1)]), "no table of tensors"),
    "only a tensor": (saved(torch.zeros(1)), "no table of tensors"),
    "only a number": (saved(3), "no table of tensors"),
    "plain pickle": (raw(pickle.dumps({"w": 1})), "not begin like a file written by torch"),
    "meta": (saved(lambda: {"w": torch.zeros(2, device="meta")}), "meta device"),
    "sparse": (saved(lambda: {"w": torch.eye(2).to_sparse()}), "a sparse tensor"),
    "nested": (saved(lambda: {"w": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])}), "a nested tensor"),
    "quantized": (
        saved(lambda: {"w": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)}),
        "a quantized tensor",
    ),
    "never initialized": (saved(lambda: {"w": torch.nn.parameter.UninitializedParameter()}), "never initialized"),
    "conjugated": (saved(lambda: {"w": torch.ones(2, dtype=torch.complex64).conj()}), "conjugated"),
    "params, 2**63 arrays": (params(count=1 << 63), "damaged MXNet .*arrays"),
    "params, 20,000 arrays of none": (params(count=20_000), "damaged MXNet .*too soon|begins with"),
    "params, a negative length": (params(dense(-1)), "has the shape"),
    "params, two negative lengths": (params(dense(-(1 << 31), -(1 << 31))), "has the shape"),
    "params, 2**186 numbers": (params(dense(1 << 62, 1 << 62, 1 << 62)), "too soon"),
    "params, 2**62 numbers of none": (params(dense(1 << 62, 0)), "too soon|has the shape|MXNet"),
    "params, four billion dimensions": (params(dense(dimensions=0xFFFFFFFF)), "dimensions"),
    "params, sparse": (params(struct.pack("<Ii", 0xF993FAC9, 1) + bytes(64)), "sparse"),
    "params, no such type": (params(dense(1, code=7)), "of type 7"),
    "params, a negative type": (params(dense(1, code=-1)), "of type -1"),
    "params, another beginning": (params(struct.pack("<I", 0xF993FACA) + bytes(64)), "begins with 0xf993faca"),
    "params, cut off": (raw(struct.pack("<QQQ", 0x112, 0, 1) + ONE[:-1]), "too soon"),
    "params, a head alone": (raw(struct.pack("<Q", 0x112)), "too soon"),
    "params, names that are not text": (params(ONE, names=[b"\xff\xfe"]), "damaged MXNet"),
    "params, one name twice": (params(ONE, ONE, names=["a", "a"]), "2 arrays have 1 names"),
    "params, a name too few": (params(ONE, ONE, names=["a"]), "2 arrays have 1 names"),
    "params, a name of 2**40": (
        raw(struct.pack("<QQQ", 0x112, 0, 0) + struct.pack("<QQ", 1, 1 << 40)),
        "characters of a name",
    ),
    "params, 2**64 - 1 names": (raw(struct.pack("<QQQQ", 0x112, 0, 0, (1 << 64) - 1)), "names"),
    "params, more behind": (params(ONE, end=b"x"), "1 bytes are left over"),
    "params, words of nothing known": (
        params(mxnet.array(np.ones(3)), names=["arg:\x1b[2K_weight"]),
        "a network that is not known",
    ),
    "params, words of a layer without norms": (
        params(mxnet.array(np.ones(3)), names=["arg:stage1_unit1_conv1_weight"]),
        "but no stage1_unit1_bn2_gamma",
    ),
    "params, a norm that is a number": (
        params(mxnet.array(np.ones(3)), dense(), names=["arg:qconvolution0_weight", "arg:batchnorm1_gamma"]),
        "damaged MXNet|MXNet",
    ),
    "gzip bomb": (gzipped_bomb, "unpacked it has more than 64 MiB"),
    "zip bomb of FINN files": (zipped_bomb, "unpacked it has more than 64 MiB"),
    "zip bomb of FINN files that lies": (lying_zipped_bomb, "damaged archive"),
    "100,000 members": (members_without_end, "more than 5000 files"),
    "50,000 folders": (folders_without_end, "more than 5000 files"),
    "6,000 zipped members": (many_zipped, "more than 5000 files"),
    "endless digits": (digits_without_end, "extended header of 2097152 bytes"),
    "headers in headers": (headers_in_headers, "recursion|damaged archive|more than"),
    "a symbolic link in tar": (tarred(("0-0-weights.bin", b""), kind=tarfile.SYMTYPE, link="/etc/passwd"), "is a link"),
    "a hard link in tar": (tarred(("a", b"x"), ("b", b""), kind=tarfile.LNKTYPE, link="a"), "is a link"),
    "a device in tar": (tarred(("a", b""), kind=tarfile.CHRTYPE), "not a regular file"),
    "a pipe in tar": (tarred(("a", b""), kind=tarfile.FIFOTYPE), "not a regular file"),
    "a name that leads out": (tarred(("a/../../0-0-weights.bin", b"12345678")), "leads out of the archive"),
    "a name from the root": (tarred(("/0-0-weights.bin", b"12345678")), "leads out of the archive"),
    "a name twice": (tarred(("0-0-weights.bin", b"1"), ("./0-0-weights.bin", b"2")), "is in it twice"),
    "a name of control characters": (tarred(("\x1b[2K/0-0-weights.bin", b"12345678")), "processing elements"),
    "a member of 2**60 bytes": (tarred(("0-0-weights.bin", b"1"), size=1 << 60), "damaged archive"),
    "a negative member": (tarred(("0-0-weights.bin", b"1"), size=-1), "damaged archive|cannot be read"),
    "a tar of one FINN file": (tarred(("0-0-weights.bin", b"12345678")), r"files of \[1\] processing elements"),
    "a tar of a checkpoint": (tarred(("model.pth", b"12345678")), "an archive, not a file of weights"),
    "a zip of one FINN file": (zipped("0-0-weights.bin", b"12345678"), r"files of \[1\] processing elements"),
    "a pipe in a folder": (folder_of("0-0-weights.bin", os.mkfifo), "0-0-weights.bin is a link, or not a regular file"),
    "a link in a folder": (
        folder_of("a", lambda path: path.symlink_to("/dev/zero")),
        "a is a link, or not a regular file",
    ),
    "5,001 files in a folder": (files_without_end, "more than 5000 files"),
    "a file of a terabyte in a folder": (large_file, "more than 64 MiB"),
    "onnx, damaged": (raw(ONNX + b"\xff" * 40), "damaged ONNX"),
    "onnx, empty": (raw(ONNX + b"\x00"), "other operations than TFC"),
    "onnx, a length of 2**60": (raw(ONNX + b"\x80" * 8 + b"\x10"), "damaged ONNX"),
    "onnx, graphs in graphs": (in_groups, "damaged ONNX|other operations"),
    "git lfs": (
        raw(b"version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
}
