"""Convert other people's checkpoints to this zoo's keys, strictly: every key is used once, every parameter is set.

If the family of a file (:mod:`bcdzoo.weights.keys`) is unknown, its layout is the one that maps the most keys. A
file may hold several state dicts: the one that fits the network is used; ``FILE#NAME`` selects another one, or
the tensors whose keys start with ``NAME.``.
"""

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bcdzoo.errors import BcdzooError
from bcdzoo.files import open_regular, require_regular
from bcdzoo.text import printable, say
from bcdzoo.weights.keys import FORMATS
from bcdzoo.weights.keys.family import Layout, Rule, State
from bcdzoo.weights.pickles import REMEDY, Pickle, Stored
from bcdzoo.weights.tensors import read_header, read_tensors

_LONGEST_KEY = 1000
_MOST_TENSORS = 20_000  # in a pickle, where each is read separately
_MOST_UNPACKED = 4 << 30  # bytes of a zip archive's member
_MOST_TIMES = 100  # unpacked to packed size; weights that are all ±1 reach 30
_DEEPEST = 4  # nested tables
_MOST_TABLES = 10  # compared with a network

_OTHER_KINDS = {
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a rar archive: unpack it first",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: `git lfs pull` fetches it",
    b"GGUF": "a GGUF file, which is not supported",
    b"{": "JSON, perhaps the index of a checkpoint in several files: pass a file of weights",
    b"<": "a web page or XML, not a checkpoint: download the file itself",
}

Fits: TypeAlias = Callable[[Collection[str]], tuple[Any, ...]]
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|rng|grad", re.IGNORECASE)
_AVERAGE = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?|polyak|shadow)(?![a-z])", re.IGNORECASE)
# Parts of keys that torch's module wrappers insert, at any depth.
_TORCH_WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def split_part(weights: str | Path) -> tuple[Path, str | None]:
    """Split ``FILE#NAME`` into file and name; an existing file with ``#`` in its name is not split.

    ``FILE#TABLE#NAME`` is a part of a table in the file.
    """
    path, names = str(weights), list[str]()
    while "#" in path and not Path(path).exists():
        path, _, name = path.rpartition("#")
        names.insert(0, name)
    return Path(path), "#".join(names) if names else None


def load_state(weights: str | Path, member: str | None = None, fits: Fits | None = None) -> State:
    """Read the tensors of a checkpoint file, without optimizer states and the like.

    Reads safetensors, torch's pickles (no code in them is run), also inside a zip archive, and the containers of the
    families in :data:`bcdzoo.weights.keys.FORMATS`.

    Args:
        weights: File, or ``FILE#NAME``; its content decides how it is read, not its name.
        member: File to read in a zip archive.
        fits: Score of a table's keys (:func:`fit_of`), if a pickle holds several tables; None for the number of keys.

    Raises:
        BcdzooError: The file is none of these, is damaged or hostile, or cannot be read without running code.
    """
    path, part = split_part(weights)
    head = _head(path)
    containers = [family.container for family in FORMATS.values() if family.container]
    if container := next((container for container in containers if container.holds(path, head)), None):
        state = container.read(path)
    elif head[8:9] == b"{":
        state = read_tensors(path).tensors
    else:
        for start, kind in _OTHER_KINDS.items():
            if head.lstrip().startswith(start):
                raise BcdzooError(f"{path} is {kind}")
        with open_regular(path) as file, _unpacked(file, path, member) as checkpoint:
            pickle = Pickle(checkpoint, str(path))
            table, part = _weights(pickle.content, path, part, fits or (lambda keys: (len(keys),)))
            state = {key: pickle.tensor(value) for key, value in table.items()}
    for name in part.split("#") if part is not None else []:
        there, state = state, _below(state, name)
        if not state:
            first = list(dict.fromkeys(key.partition(".")[0] for key in there))
            raise BcdzooError(f"{path} holds no weights called {printable(repr(name), 100)}, but {_listed(first)}")
    for key in state:
        if len(key) > _LONGEST_KEY:
            raise BcdzooError(f"{path} holds a tensor with a name of {len(key)} characters: {printable(key, 60)}")
    return state


def _head(path: Path) -> bytes:
    """The beginning of a file; empty for a folder."""
    if path.is_dir():
        return b""
    require_regular(path)
    with open_regular(path) as file:
        head = file.read(64)
    if not head:
        raise BcdzooError(f"{path} is empty: fetch it again")
    return head


def safetensors_metadata(path: Path) -> dict[str, str]:
    """Read the text metadata of a safetensors file, without its seal, which is checked; empty for any other file.

    Raises:
        BcdzooError: It is damaged, or cannot be read.
    """
    return read_header(path)[0] if _head(path)[8:9] == b"{" else {}


@contextmanager
def _unpacked(file: BinaryIO, path: Path, member: str | None) -> Iterator[BinaryIO]:
    """Open the checkpoint in a zip archive, or the file itself if it is a checkpoint (torch's own format is a zip)."""
    if not zipfile.is_zipfile(file):
        yield file
        return
    try:
        archive = zipfile.ZipFile(file)
        names = archive.namelist()
        if any(name.split("/")[-1] == "data.pkl" for name in names):
            yield file
            return
        if names and all(name.endswith(".npy") for name in names):
            raise BcdzooError(f"{path} holds NumPy arrays (.npz), which are not supported: save them as safetensors")
        if "model.weights.h5" in names:
            raise BcdzooError(f'{path} is a .keras file, which is not supported: in Keras, save_weights("weights.h5")')
        wanted = [name for name in names if (name == member if member else name.endswith((".pth", ".pt")))]
        if len(wanted) != 1:
            found = printable(", ".join(names[:20]), 200) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
            raise BcdzooError(
                f"{path}: expected {member or 'one .pth file'} in the archive, found {found or 'nothing'}"
            )
        info = archive.getinfo(wanted[0])
        name = printable(info.filename, 100)
        if info.flag_bits & 1:
            raise BcdzooError(f"{path}: {name} in it is encrypted: unpack it first")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BcdzooError(f"{path}: {name} in it is compressed by an unsupported method: unpack it first")
        packed = min(info.compress_size, path.stat().st_size)
        if info.file_size > min(_MOST_UNPACKED, _MOST_TIMES * packed):
            raise BcdzooError(
                f"{path}: {name} in it would take {info.file_size} bytes, {info.file_size // max(packed, 1)} times "
                "its size: weights do not compress that well"
            )
        with tempfile.TemporaryFile(prefix="bcdzoo-") as unpacked:
            with archive.open(info) as content:
                shutil.copyfileobj(content, unpacked)
            yield unpacked
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, UnicodeError) as error:
        raise BcdzooError(f"{path} is a damaged zip archive ({printable(error, 200)}); fetch it again") from None


def _weights(content: Any, path: Path, part: str | None, fits: Fits) -> tuple[dict[str, Stored], str | None]:
    """Select the state dict in a checkpoint, and return it with the part of it that is still to be selected."""
    tables = dict(_tables(content, "", _DEEPEST, set()))
    named, _, below = (None, "", "") if part is None else part.partition("#")
    usual = [name for name in tables if not _NOT_WEIGHTS.search(name)]
    if named in tables:
        best, part = [named], below or None
    elif not usual:
        reason = "holds no table of tensors"
        if isinstance(content, Mapping) and any(not isinstance(key, str) for key in content):
            reason = "has keys that are not text"
        raise BcdzooError(f"{path} is not a plain state dict: it {reason}; {REMEDY}")
    else:
        parts = {name: tables[name] if named is None else _below(tables[name], named) for name in usual}
        best = _fittest({name: table for name, table in parts.items() if table}, fits)
        if not best:
            there = _fittest({name: tables[name] for name in usual}, fits)
            raise BcdzooError(f"{path} holds no weights called {named!r}, but {_listed(there)}")
    plain = [name for name in best if not _AVERAGE.search(name)] or best
    if len(plain) > 1:
        raise BcdzooError(f"{path} holds several state dicts: select one, as in {path}#{_listed(best)}")
    chosen, others = plain[0], [name for name in best if name != plain[0]]
    if others:
        say(f"{path}: its {_listed([chosen])} is used; it also holds {_listed(others)}: {path}#NAME selects that")
    if len(tables[chosen]) > _MOST_TENSORS:
        raise BcdzooError(f"{path} is not read: it holds {len(tables[chosen])} tensors, more than {_MOST_TENSORS}")
    return tables[chosen], part


def _fittest(tables: Mapping[str, Collection[str]], fits: Fits) -> list[str]:
    """Return the names of the tables that fit best, averaged weights last."""
    names = sorted(tables, key=lambda name: len(tables[name]), reverse=True)[:_MOST_TABLES]
    if len(names) < 2:
        return names
    fit = {name: fits(tables[name]) for name in names}
    best = max(fit.values())
    return sorted((name for name in names if fit[name] == best), key=lambda name: bool(_AVERAGE.search(name)))


def _listed(names: list[str]) -> str:
    return ", ".join(printable(name or "(the whole)", 60) for name in names[:8])


def _tables(content: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, dict[str, Stored]]]:
    """Yield every table that holds tensors, with its name: ``state_dict``, ``model/ema``, empty for the whole.

    A table in several places gets the name of the first, because there may be very many paths to it.
    """
    if not isinstance(content, Mapping) or not depth or id(content) in seen:
        return
    seen.add(id(content))
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Stored)}
    if tensors:
        yield name, tensors
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Mapping):
            yield from _tables(value, f"{name}/{key}" if name else key, depth - 1, seen)


def _below(table: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the entries whose keys start with a name, without it."""
    return {key.removeprefix(f"{part}."): value for key, value in table.items() if key.startswith(f"{part}.")}


class _Match(NamedTuple):
    """A checkpoint's keys mapped to a network's.

    Attributes:
        layout: Layout that yields the most of the network's keys.
        renamed: New key -> the checkpoint's keys it is made from.
        missing: Keys of the network that are not among the new ones.
        extra: Keys of the checkpoint that are not used.
    """

    layout: Layout
    renamed: dict[str, list[str]]
    missing: list[str]
    extra: list[str]

    @property
    def whole(self) -> bool:
        """Whether every key fits."""
        return not self.missing and not self.extra


def layout_of(state: State, model: nn.Module, format: str = "") -> Layout:
    """Find the layout of a checkpoint for a network; arguments as in :func:`convert_state`."""
    return _match(state, _target(model), format).layout


def fit_of(model: nn.Module, format: str = "") -> Fits:
    """Return a function that scores how well a table's keys fit a network: the larger, the better."""
    target = _target(model)

    def fit(keys: Collection[str]) -> tuple[Any, ...]:
        match = _match(keys, target, format)
        return match.whole, -len(match.missing), not match.whole and len(keys)

    return fit


def convert_state(state: State, model: nn.Module, source: str, format: str = "") -> State:
    """Rename a checkpoint's tensors to a network's own keys.

    Args:
        state: Tensors with the keys of any layout of the family, possibly all with the same prefix.
        model: Network that they are for, possibly on the meta device.
        source: Name of the checkpoint in error messages.
        format: Family in :data:`bcdzoo.weights.keys.FORMATS`; empty to recognize it by its keys.

    Returns:
        Exactly the keys, shapes and dtypes of ``model.state_dict()``. Binary weights stored as ±1 stay ±1: their scale
        mean(|W|) is then 1.

    Raises:
        BcdzooError: A key is missing, left over or of the wrong shape, or its values are not weights; the message
            names it.
    """
    target, name = _target(model), type(model).__name__
    layout, renamed, missing, extra = match = _match(state, target, format)
    if not match.whole:
        others = [other for other in FORMATS if format and other != format and _match(state, target, other).whole]
        if others:
            raise BcdzooError(
                f"{source} has the keys of the format {others[0]!r}, but its entry in the manifest says {format!r}: "
                "it is a different file, or the entry is wrong"
            )
        problems = [
            f"{what} {', '.join(printable(key, 100) or '(no name)' for key in keys[:4])}"
            + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
            for what, keys in (("missing", missing), ("left over", extra))
            if keys
        ]
        problems += _networks(state, target, source, format)
        raise BcdzooError(f"{source} does not fit {name}: {'; '.join(problems)}")
    if reason := layout.unfit(state, model):
        raise BcdzooError(f"{source} does not fit {name}: {reason}")
    if assumption := layout.assumed(state, model):
        say(f"note: {source}: {assumption}")
    state = layout.used(state)
    return {
        original: _fit(key, [(theirs, state[theirs]) for theirs in renamed[key]], wanted, source)
        if key in renamed
        else torch.zeros((), dtype=torch.int64)
        for key, (original, wanted) in target.items()
    }


def _target(model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """Map each key, without torch's wrappers, to the network's own key and its tensor."""
    target = {}
    for key, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor) or is_lazy(tensor):
            what = "has no size before the first image" if isinstance(tensor, Tensor) else "is not a tensor"
            raise BcdzooError(f"weights cannot be loaded into {type(model).__name__} because its {key} {what}")
        target[_TORCH_WRAPPERS.sub("", key)] = (key, tensor)
    return target


def _match(keys: Collection[str], target: Mapping[str, Any], format: str) -> _Match:
    """Choose the layout, and the shared prefix to remove, that yield the most of the network's keys."""
    families = [FORMATS[format]] if format else FORMATS.values()
    layouts = [layout for family in families for layout in family.layouts]
    named = [(_TORCH_WRAPPERS.sub("", key), key) for key in keys if key != "n_averaged"]
    best, fitting = (Layout(), *_rename(named, ())), -1
    if len(keys) > 4 * len(target) + 1000:  # looking for a layout would take long
        layouts = []
    for _ in range(_DEEPEST + 1):
        for layout in layouts:
            renamed, doubled = _rename(named, layout.rules)
            if (found := len(target.keys() & renamed.keys())) > fitting:
                best, fitting = (layout, renamed, doubled), found
            if fitting == len(target):
                break
        first = _shared_prefix([key for key, _ in named])
        if not first or fitting == len(target):
            break
        named = [(key.removeprefix(first), original) for key, original in named]
    layout, renamed, doubled = best
    # The counter of batches is no weight; files from before torch 0.4.1 and some batch norms lack it.
    missing = [key for key in target if key not in renamed and not key.endswith("num_batches_tracked")]
    extra = [original for key, originals in renamed.items() if key not in target for original in originals]
    extra += doubled
    return _Match(layout, renamed, missing, extra)


def _shared_prefix(keys: Collection[str]) -> str:
    """Return the first word of all keys, with its dot; empty if they differ."""
    first = next(iter(keys), "").partition(".")[0] + "."
    return first if keys and all(key.startswith(first) for key in keys) else ""


def _networks(state: State, target: Mapping[str, Any], source: str, format: str) -> list[str]:
    """Explain how to select one of several networks in one table, each with its own prefix."""
    shared, table = "", dict.fromkeys(state)
    while (first := _shared_prefix(table)) and shared.count(".") < _DEEPEST:
        shared, table = shared + first, _below(table, first.removesuffix("."))
    prefixes = list(dict.fromkeys(key.partition(".")[0] for key in table))[:20]
    whole = [f"{shared}{prefix}" for prefix in prefixes if _match(_below(table, prefix), target, format).whole]
    return [f"{source}#NAME selects the tensors of {_listed(whole)}"] if whole else []


def _rename(named: list[tuple[str, str]], rules: Sequence[Rule]) -> tuple[dict[str, list[str]], list[str]]:
    """New key -> the original keys it is made of, in the order of their ``#`` marks; and those that come twice."""
    renamed: dict[str, dict[str, str]] = {}
    doubled = []
    for key, original in named:
        if new := _new_key(key, rules):
            name, part = new
            if renamed.setdefault(name, {}).setdefault(part, original) != original:
                doubled.append(original)
    return {name: [original for _, original in sorted(parts.items())] for name, parts in renamed.items()}, doubled


def _new_key(key: str, rules: Sequence[Rule]) -> tuple[str, str] | None:
    """Apply the first rule that matches; returns the new key and its part, or None if the rule drops the key.

    Without rules all keys stay as they are; with rules, a key that none of them matches becomes empty.
    """
    for pattern, replacement in rules:
        if match := re.match(pattern, key):
            if replacement is None:
                return None
            start, _, part = (replacement(match) if callable(replacement) else match.expand(replacement)).partition("#")
            return start + key[match.end() :], part
    return "" if rules else key, ""


def _fit(key: str, parts: list[tuple[str, Tensor]], wanted: Tensor, source: str) -> Tensor:
    """Join the parts of a tensor in the shape that the network needs; an error names what does not fit."""
    each = (wanted.shape[0] // len(parts), *wanted.shape[1:]) if wanted.ndim else ()
    fitted = []
    for original, tensor in parts:
        name = printable(original, 100)
        flat_weight = original.endswith(".weights") and tensor.shape == (torch.Size(each).numel(), 1)
        channel_bias = wanted.ndim == 1 and tensor.shape == (1, *each, 1, 1)
        pointwise = tensor.ndim == 2 and each == (*tensor.shape, 1, 1)  # a linear layer as a 1×1 convolution
        row = torch.Size(each[1:]).numel()
        kernels = original.endswith(".B") and tensor.shape in ((*each[:1], row), (*each[:1], 1, row))  # SiMaN's
        if tensor.shape != each and not (flat_weight or channel_bias or pointwise or kernels):
            raise BcdzooError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, but {key} needs {tuple(each)}"
                + (f" of each of {len(parts)} parts" if len(parts) > 1 else "")
            )
        if reason := _no_weights(tensor, wanted.dtype):
            raise BcdzooError(f"{source}: {name} {reason}")
        fitted.append(tensor.reshape(each).to(wanted.dtype))
    joined = torch.cat(fitted) if len(fitted) > 1 and wanted.ndim else fitted[0].clone()
    if joined.dtype.itemsize > 1 and not joined.isfinite().all():
        raise BcdzooError(
            f"{source}: {printable(parts[0][0], 100)} holds numbers that are not finite: the file is unusable"
        )
    if key.endswith("running_var") and (joined < 0).any():
        raise BcdzooError(f"{source}: {printable(parts[0][0], 100)} holds negative variances: the file is unusable")
    return joined.contiguous()


def _no_weights(tensor: Tensor, wanted: torch.dtype) -> str:
    """Return why a tensor cannot be converted to a dtype, if it cannot."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.dtype == wanted:
        return ""
    if tensor.is_complex():
        return f"holds complex numbers ({kind}), but weights are real"
    if wanted.is_floating_point and (not tensor.is_floating_point() or tensor.dtype.itemsize == 1):
        return f"holds {kind} without the scales that turn it into weights: save them as float32"
    if not wanted.is_floating_point and tensor.is_floating_point() and tensor.numel() > 1:
        return f"holds {kind}, but {wanted} is needed"
    return ""
