"""Files, images, tables and answers that mean harm: what the command line does with each, in how much memory and time.

``python scripts/hostile.py [PATTERN]`` makes them in a temporary folder, runs ``bcdzoo`` on each and prints a line a
case. It exits with 1 if code from a file was run, something took 2 GiB or 30 s of processor, hung, was answered with a
traceback or "unexpected", wrote control characters on the terminal, or was used although it should have been refused.
"""

import fnmatch
import functools
import gzip
import http.server
import io
import json
import os
import pickle
import re
import resource
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

import bcdzoo

MOST_MEMORY, MOST_TIME, MOST_WAIT = 2 << 30, 30, 150  # bytes, seconds of processor, seconds
SHIPPED = Path(bcdzoo.__file__).parent / "weights" / "shipped" / "bcdnet-tiny.safetensors"
PREPROCESS = "resize=32,crop=32,mean=0,std=1"


class Case(NamedTuple):
    """A command on something hostile.

    Attributes:
        name: Of the case.
        command: Arguments of ``bcdzoo``.
        used: Whether it may succeed: what is wrong with it then is said or passed over.
        env: Variables of the command.
    """

    name: str
    command: list[str]
    used: bool = False
    env: dict[str, str] | None = None


def write(path: Path, content: bytes | str) -> Path:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def checkpoints(root: Path) -> Iterator[Case]:
    """Checkpoints that are given by their path."""
    shipped, one = load_file(SHIPPED), {"a": torch.zeros(1)}
    tiny = {"format": "bcdzoo 1", "model": "bcdnet-tiny", "build": "{}"}
    write(root / "evil_module.py", 'open("CANARY", "w").write("code ran")\n')
    for name, metadata in {
        "evil": {"model": "evil_module:x", "build": "{}"},
        "evil-build": {"build": '{"activation": "evil_module:x"}'},
        "evil-lineage": {"lineage": '{"model": "evil_module:x", "teacher": "evil_module:x"}', "build": "{}"},
    }.items():
        file = root / f"{name}.safetensors"
        save_file(one if name == "evil" else shipped, file, tiny | metadata)
        yield Case(f"{name}: audit", ["audit", str(file), "--data", "demo"], used=name == "evil-lineage")
        yield Case(f"{name}: push", ["push", str(file), "--repo", "me/x", "--license", "MIT", "--dry-run"], used=True)

    class Runs:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.system, ("echo code ran > CANARY",)

    write(root / "reduce.pth", pickle.dumps({"state_dict": Runs()}))
    yield Case(
        "a pickle that runs a command", ["convert", "reduce.pth", "--model", "bcdnet-tiny", "--out", "x.safetensors"]
    )
    for name, change in {
        "20 million classes": {"build": '{"num_classes": 20000000}'},
        "a build of deep JSON": {"build": "[" * 100_000},
        "a build that is a number": {"build": "3"},
        "a build of long integers": {"build": '{"num_classes": ' + "9" * 5000 + "}"},
        "no build": {"build": "", "preprocess": "resize=28,crop=28,mean=0,std=1"},
        "a step that is text": {"build": '{"step": "' + "x" * 10**6 + '"}'},
        "std=1e9999999999": {"preprocess": "resize=28,crop=28,mean=0,std=1e9999999999"},
        "resize=20000": {"preprocess": "resize=20000,crop=28,mean=0,std=1"},
        "crop=10**9": {"preprocess": "resize=28,crop=1000000000,mean=0,std=1"},
        "mean=1/0": {"preprocess": "resize=28,crop=28,mean=1/0,std=1"},
        "a preprocessing of 1 MB": {"preprocess": "resize=28," * 10**5},
        "lineage of deep JSON": {"lineage": "[" * 100_000},
        "class names of deep JSON": {"class_names": "[" * 100_000},
    }.items():
        file = root / f"metadata-{len(list(root.iterdir()))}.safetensors"
        save_file(shipped, file, tiny | change)
        used = name.startswith(("lineage", "class names", "no build"))
        yield Case(name, ["eval", "bcdnet-tiny", "--weights", str(file), "--data", "demo", "--no-store"], used)
    for name, content in _files(root, one):
        file = content if isinstance(content, Path) else write(root / f"{name.replace(' ', '-')}.pth", content)
        yield _convert(name, file)


def _convert(name: str, file: Path) -> Case:
    return Case(name, ["convert", str(file), "--model", "bcdnet-tiny", "--out", str(file.parent / "out.safetensors")])


def _files(root: Path, one: dict[str, Any]) -> Iterator[tuple[str, bytes | Path]]:
    with (
        zipfile.ZipFile(root / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w.pth", "w", force_zip64=True) as member,
    ):
        for _ in range(4096):
            member.write(bytes(1 << 20))
    yield "a zip of 4 GB", root / "bomb.zip"
    saved = io.BytesIO()
    torch.save(one, saved)
    with (
        zipfile.ZipFile(saved) as whole,
        zipfile.ZipFile(root / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for entry in whole.namelist():
            with archive.open(entry, "w", force_zip64=True) as member:
                member.write(whole.read(entry))
                for _ in range(4096 if entry.endswith("data/0") else 0):
                    member.write(bytes(1 << 20))
    yield "a deflated torch file of 4 GB", root / "deflated.pth"
    with zipfile.ZipFile(root / "many.zip", "w") as archive:
        for i in range(20_000):
            archive.writestr(f"{i}.pth", b"")
    yield "20,000 zip members", root / "many.zip"
    yield "a gzip file", gzip.compress(bytes(1 << 26))
    yield "a key of 1 MB", _saved({"k" * 10**6: torch.zeros(1)})
    yield "a key that writes on the terminal", _saved({"a\x1b[2K\rbcdzoo: all is well\n": torch.zeros(1)})
    yield "keys that are no text", _saved({1: torch.zeros(1), None: torch.zeros(1)})
    yield "a tensor of 10**12 equal numbers", _saved({"a": torch.zeros(1).expand(10**12)})
    yield "a sparse tensor", _saved({"a": torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (10**9,))})
    yield "a meta tensor", _saved({"a": torch.empty(10**12, device="meta")})
    yield "a quantized tensor", _saved({"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)})
    yield "a pickle 100,000 deep", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    yield "a safetensors header of 2**63", struct.pack("<Q", 1 << 63) + b"{"
    yield "a safetensors header of 90 MB", struct.pack("<Q", 90 << 20) + b"{" + b" " * ((90 << 20) - 1)
    yield "a safetensors header of deep JSON", struct.pack("<Q", 200_001) + b'{"a":' + b"[" * 199_996
    with h5py.File(root / "deep.h5", "w") as file:
        group: Any = file
        for _ in range(3000):
            group = group.create_group("g")
    yield "3,000 nested groups", root / "deep.h5"
    with h5py.File(root / "wide.h5", "w") as file:
        for i in range(30_000):
            file.create_group(f"g{i}")
    yield "30,000 groups", root / "wide.h5"
    with h5py.File(root / "deflated.h5", "w") as file:
        file.create_dataset("layer/kernel:0", (1 << 30,), "f4", compression="gzip", chunks=(1 << 20,), fillvalue=0)
    yield "an HDF5 array of 4 GB", root / "deflated.h5"
    yield "an empty file", b""
    os.mkfifo(root / "fifo.pth")
    yield "a named pipe", root / "fifo.pth"
    (root / "zero.pth").symlink_to("/dev/zero")
    yield "a device", root / "zero.pth"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.pth"))
    yield "a socket", root / "socket.pth"
    (root / "folder.pth").mkdir()
    yield "a folder", root / "folder.pth"


def bundles(root: Path) -> Iterator[Case]:
    """Checkpoints of several files, and those of other programs."""

    def case(name: str, place: Path, model: str = "finn-lfc-w1a1") -> Iterator[Case]:
        yield Case(name, ["eval", model, "--weights", str(place), "--data", "demo", "--no-store"])
        if model.startswith("finn"):
            yield Case(f"{name}: fetch", ["fetch", model, "--from", str(place)])

    head = tarfile.TarInfo("0-0-weights.bin")
    head.size = 1 << 32
    with gzip.open(root / "bomb.tar.gz", "wb", 1) as file:
        file.write(head.tobuf())
        for _ in range(4096):
            file.write(bytes(1 << 20))
    yield from case("an archive of 4 GB in 18 MB", root / "bomb.tar.gz")
    with (
        zipfile.ZipFile(root / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("0-0-weights.bin", "w", force_zip64=True) as member,
    ):
        for _ in range(4096):
            member.write(bytes(1 << 20))
    yield from case("a zip of 4 GB in 18 MB", root / "bomb.zip")
    with tarfile.open(root / "link.tar", "w") as tar:
        info = tarfile.TarInfo("0-0-weights.bin")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    yield from case("an archive with a link", root / "link.tar")
    with tarfile.open(root / "out.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../../\x1b[2K/0-0-weights.bin"))
    yield from case("an archive with a name that leads out", root / "out.tar")
    write(root / "many.tar", b"".join(tarfile.TarInfo(f"{i}.bin").tobuf() for i in range(100_000)))
    yield from case("an archive of 100,000 members", root / "many.tar")
    digits = tarfile.TarInfo("x")
    digits.type, digits.size = b"x", 1 << 24
    write(root / "digits.tar", digits.tobuf() + b"1" * (1 << 24) + head.tobuf())
    yield from case("an archive with a header of 16 MB", root / "digits.tar")
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "0-0-weights.bin")
    yield from case("a folder with a pipe", root / "pipe")
    (root / "loop").mkdir()
    (root / "loop" / "again").symlink_to("..")
    yield from case("a folder in itself", root / "loop")
    yield from case("the whole machine", Path("/usr"))
    packed = struct.pack("<QQQ", 0x112, 0, 1 << 63)
    yield from case("2**63 arrays", write(root / "arrays.params", packed), "bmxnet-r18")
    packed = struct.pack("<QQQIiI3qiii", 0x112, 0, 1, 0xF993FAC9, 0, 3, *[1 << 62] * 3, 1, 0, 0)
    yield from case("an array of 2**186 numbers", write(root / "numbers.params", packed), "bmxnet-r18")
    yield from case(
        "a damaged graph", write(root / "x.onnx", b"\x08\x08\x12\x01x\x3a" + b"\xff" * 99), "qonnx-tfc-w1a1"
    )
    entry = """[[checkpoint]]
model = "finn-lfc-w1a1"
tag = "x"
source = "files"
url = "http://127.0.0.1:9/{slash}"
filename = "x.tar"
format = "finn"
preprocess = "imagenet"
[checkpoint.files]
{files}
"""
    some = f'"a" = "{"0" * 64}"'
    for name, slash, files in (
        ("a server that is not there", "/", some),
        ("no folder", "x", some),
        ("a name that leads out", "/", some.replace("a", "../a", 1)),
        ("a name of control characters", "/", some.replace("a", "\\u001b[2K", 1)),
        ("a hash of one digit", "/", '"a" = "0"'),
        ("a hash that is a table", "/", '"a" = {}'),
        ("6,000 files", "/", "\n".join(some.replace("a", f"{i}", 1) for i in range(6000))),
    ):
        place = write(root / f"{len(list(root.iterdir()))}.toml", entry.format(slash=slash, files=files))
        yield Case(f"a manifest with {name}", ["fetch", "finn-lfc-w1a1", "--tag", "x", "--manifest", str(place)])


def _saved(content: Any) -> bytes:
    saved = io.BytesIO()
    torch.save(content, saved)
    return saved.getvalue()


def images(root: Path) -> Iterator[Case]:
    """Images, and what stands in their place."""

    def one(name: str, content: bytes | None, used: bool = False) -> Case:
        folder = root / name.replace(" ", "-") / "n01440764"
        folder.mkdir(parents=True)
        if content is not None:
            (folder / "a.png").write_bytes(content)
        return Case(
            name, ["eval", "resnet-18", "--weights", str(root / "r18.safetensors"), "--data", str(folder.parent)], used
        )

    weights = root / "r18.safetensors"
    save_file(bcdzoo.create_model("resnet-18").state_dict(), weights)
    yield one("65535 pixels wide", _png(65535, 1), used=True)
    yield one("65535 pixels high", _png(1, 65535), used=True)
    yield one("60000 by 60000", _png(60000, 60000))
    yield one("16000 by 11000 of one bit", _png(16000, 11000), used=True)
    yield one("cut off", _png(500, 500)[:60])
    yield one("no image", b"<html>" * 1000)
    yield one("a tiff of 100000 by 100000", _tiff(100_000))
    pipes = one("a pipe among images", _png(40, 40), used=True)
    os.mkfifo(Path(pipes.command[-1]) / "n01440764" / "b.png")
    yield pipes
    loops = one("a folder in itself", _png(40, 40), used=True)
    (Path(loops.command[-1]) / "n01440764" / "again").symlink_to("..")
    yield loops


def _png(width: int, height: int) -> bytes:
    row = zlib.compress(bytes((1 + (width + 7) // 8) * min(height, 2000)), 9)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)),
        (b"IDAT", row),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _tiff(side: int) -> bytes:
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, side)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def data(root: Path) -> Iterator[Case]:
    """Archives, tables and lists."""

    def case(name: str, place: Path, used: bool = False) -> Case:
        return Case(name, ["eval", "bcdnet-tiny", "--data", str(place), "--preprocess", PREPROCESS, "--no-store"], used)

    yield case("a CSV of NULs", write(root / "nul.csv", b"\0" * 10_000))
    yield case("a CSV of one field", write(root / "field.csv", b"path,label\n" + b"x" * (200 << 20)))
    os.mkfifo(root / "pipe.png")
    yield case("a CSV that names a pipe", write(root / "pipe.csv", "path,label\npipe.png,1\n"))
    yield case("a CSV that names a device", write(root / "device.csv", "path,label\n/dev/zero,1\n"))
    yield case("a label of 5000 digits", write(root / "digits.csv", f"path,label\na.png,{'9' * 5000}\n"))
    os.mkfifo(root / "fifo.csv")
    yield case("a pipe as data", root / "fifo.csv")
    header = struct.pack(">IIII", 0x803, 1 << 31, 28, 28)
    idx = write(root / "idx" / "t10k-images-idx3-ubyte", header).parent
    write(idx / "t10k-labels-idx1-ubyte", struct.pack(">II", 0x801, 1 << 31))
    yield case("idx files that claim 2**31 images", idx)
    bomb = root / "idxgz"
    bomb.mkdir()
    with gzip.open(bomb / "t10k-images-idx3-ubyte.gz", "wb", 9) as file:
        file.write(struct.pack(">IIII", 0x803, 10, 28, 28))
        for _ in range(4096):
            file.write(bytes(1 << 20))
    with gzip.open(bomb / "t10k-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">II", 0x801, 10) + bytes(10))
    yield case("an idx file of 4 GB in 4 MB", bomb)
    info = tarfile.TarInfo("a.png")
    info.size = 1 << 60
    yield case("a tar member of 2**60 bytes", write(root / "absurd.tar", info.tobuf() + bytes(1024)))
    with tarfile.open(root / "names.tar", "w") as archive:
        for i in range(20_000):
            archive.addfile(tarfile.TarInfo(f"{i}" + "x" * 3000))
    yield case("20,000 tar members with long names", root / "names.tar")
    image = pa.array([{"bytes": b"x", "path": "p"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    double = pa.Table.from_arrays([image, image, pa.array([1])], names=["image", "image", "label"])
    pq.write_table(double, root / "double.parquet")
    yield case("a parquet file with two columns of a name", root / "double.parquet")
    deep = pa.table({"image": image, "label": pa.array([1])}).replace_schema_metadata({b"huggingface": b"[" * 100_000})
    pq.write_table(deep, root / "deep.parquet")
    yield case("a parquet file with deep metadata", root / "deep.parquet")


def texts(root: Path) -> Iterator[Case]:
    """Manifests, recipes, results and what an option names."""
    deep = write(root / "deep.toml", "a = " + "[" * 100_000)
    yield Case("a manifest of deep TOML", ["list", "--format", "json"], env={"BCDZOO_MANIFEST": str(deep)}, used=True)
    yield Case("the same, asked for", ["fetch", "bcdnet-a", "--manifest", str(deep)])
    yield Case(
        "a recipe of deep TOML", ["train", "bcdnet-tiny", "--data", "demo", "--recipe", str(deep), "--out", "run"]
    )
    os.mkfifo(root / "fifo.toml")
    yield Case("a manifest that is a pipe", ["fetch", "bcdnet-a", "--manifest", str(root / "fifo.toml")])
    yield Case(
        "a recipe that is a pipe", ["train", "bcdnet-tiny", "--data", "demo", "--recipe", str(root / "fifo.toml")]
    )
    yield Case("a pipe in compare", ["compare", str(root / "fifo.toml"), "x"])
    home = root / "home"
    for name, content in {
        "deep": "[" * 100_000,
        "types": json.dumps({"model": 3, "weights": [], "n": "x", "top1": {}, "started": None}),
        "text": "\0" * 1000,
    }.items():
        write(home / "results" / f"{name}.json", content)
    for command in (["results"], ["table"], ["report", "-o", str(root / "r.html")]):
        yield Case(f"damaged results: {command[0]}", command, used=True, env={"BCDZOO_HOME": str(home)})


class _Answers(http.server.BaseHTTPRequestHandler):
    """A server that sends without end, or little that unpacks to much."""

    def do_GET(self) -> None:
        self.send_response(200, "OK\x1b[2K" if "reason" in self.path else "OK")
        if "gzip" in self.path:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        try:
            if "gzip" in self.path:
                self.wfile.write(self.bomb())
                return
            while True:
                self.wfile.write(bytes(1 << 20))
        except OSError:
            pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    @staticmethod
    @functools.cache
    def bomb() -> bytes:
        """4 GB in 4 MB."""
        pack = zlib.compressobj(1, wbits=31)
        return b"".join(pack.compress(bytes(1 << 24)) for _ in range(256)) + pack.flush()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def servers(root: Path) -> Iterator[Case]:
    """Answers of a server."""
    _Answers.bomb()  # before anybody waits for it
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, size in {"endless": 1000, "gzip": 1000, "gzip-unsized": None}.items():
        entry = {
            "model": "bcdnet-tiny",
            "tag": name,
            "source": "url",
            "url": f"http://me:secret@127.0.0.1:{server.server_port}/{name}?token=secret",
            "filename": "w.pth",
            "format": "zoo",
            "preprocess": "imagenet",
            "evidence": "none",
        } | ({"size": size} if size else {})
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in entry.items())
        manifest = write(root / f"{name}.toml", f"[[checkpoint]]\n{lines}\n")
        command = ["fetch", "bcdnet-tiny", "--tag", name, "--manifest", str(manifest)]
        yield Case(f"a server: {name}", command, env={"BCDZOO_HOME": str(root / "home")})


def run(case: Case, folder: Path) -> tuple[list[str], float, int, str]:
    """What is wrong, seconds of processor, bytes of memory, and what was said."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("BCDZOO_")}
    env |= {"BCDZOO_HOME": str(folder / "fresh-home"), "TERM": "dumb"} | (case.env or {})
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "bcdzoo", *case.command],
            cwd=folder,
            env=env,
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30)),
        )
        killer = threading.Timer(MOST_WAIT, process.kill)
        killer.start()
        _, status, usage = os.wait4(process.pid, 0)
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        raw = said.read()
    seconds, memory, text = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, raw.decode(errors="replace")
    wrong = []
    if (folder / "CANARY").exists():
        wrong.append("CODE RAN")
        (folder / "CANARY").unlink()
    if memory > MOST_MEMORY:
        wrong.append("memory")
    if seconds > MOST_TIME:
        wrong.append("time")
    if process.returncode not in ((0, 1) if case.used else (1, 2)):
        wrong.append(f"exit {process.returncode}")
    if "Traceback" in text or re.search(r"unexpected \w+: ", text):
        wrong.append("unexpected")
    if any(ord(c) < 32 and c not in "\n" for c in text) or "secret" in text:
        wrong.append("raw text")
    return wrong, seconds, memory, text


def main() -> int:
    """Run all cases that match the pattern."""
    pattern = sys.argv[1] if len(sys.argv) > 1 else "*"
    failed = number = 0
    with tempfile.TemporaryDirectory() as name:
        for group in (checkpoints, bundles, images, data, texts, servers):
            folder = Path(name, group.__name__)
            folder.mkdir()
            for case in group(folder):
                if not fnmatch.fnmatch(f"{group.__name__}: {case.name}", pattern):
                    continue
                wrong, seconds, memory, text = run(case, folder)
                last = (text.strip().splitlines() or [""])[-1]
                verdict = ", ".join(wrong) or "ok"
                print(f"{verdict:10} {seconds:5.1f} s {memory / 2**20:6.0f} MiB  {case.name}: {last[:150]}", flush=True)
                failed += bool(wrong)
                number += 1
    print(f"{number} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
