"""The network under evaluation: its origin, how it is run, and what identifies it."""

import hashlib
import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bcdzoo.custom_model import import_network, is_onnx_file
from bcdzoo.data.preprocess import Preprocess, parse
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.mode import STRICT, Mode
from bcdzoo.evaluation.options import EvalOptions
from bcdzoo.files import open_regular, require_regular, sha256_of
from bcdzoo.interchange.importing import resolve_qonnx
from bcdzoo.packed.checkpoint import is_packed_file, resolve_packed
from bcdzoo.packed.module import EngineModule
from bcdzoo.registry import find
from bcdzoo.text import as_utf8, printable, say
from bcdzoo.weights.convert import split_part
from bcdzoo.weights.hub import from_address, is_address
from bcdzoo.weights.load import LoadedModel, assumed, load_into, resolve
from bcdzoo.weights.metadata import carried_preprocess, read_metadata, remember

_GUESSES = 5


@dataclass
class EvalModel:
    """A network on its device, in evaluation mode, and how it is run.

    Attributes:
        loaded: Network from float32 images of shape (N, 3, H, W) to logits of shape (N, ``outputs``), with its origin.
        preprocess: Preprocessing of its images.
        preprocess_from: Origin of the preprocessing: ``given``, ``weights``, or ``assumed``.
        device: Device of the network.
        mode: Mode in which it is run.
        outputs: Number of classes.
        state: Hex hash of its architecture, parameters and buffers.
        step: Number of images at once, if a GPU's memory is too small for a batch; None for a whole batch.
    """

    loaded: LoadedModel
    preprocess: Preprocess
    preprocess_from: str
    device: torch.device
    mode: Mode = STRICT
    outputs: int = 0
    state: str = ""
    step: int | None = None

    @property
    def network(self) -> nn.Module:
        """The module to call."""
        return self.loaded.model

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.loaded.name

    def record(self) -> dict[str, Any]:
        """Return the fields of a result."""
        label = self.loaded.label
        return {
            "model": self.name,
            "weights": as_utf8(label) if label else None,
            "sha256": self.loaded.sha256,
            "state": self.state,
            "build": self.loaded.build,
            "outputs": self.outputs,
            "preprocess": str(self.preprocess),
            "preprocess_from": self.preprocess_from,
            "device": str(self.device),
            **self.mode.record(),
        }

    @property
    def title(self) -> str:
        """Name, and mode if it is not the strict one."""
        return self.name if self.mode == STRICT else f"{self.name} ({self.mode})"

    @property
    def width(self) -> int:
        """Number of predicted classes per image: five, or the number of outputs if less."""
        return min(_GUESSES, self.outputs)

    def guess(self, pixels: Tensor, ids: list[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Predict the classes of images: class indices by descending logit, and these logits, both (N, ``width``).

        Args:
            pixels: Pixels in the geometry of ``preprocess``, (N, 3, H, W).
            ids: Ids of the images, for messages.

        Raises:
            BcdzooError: Logits are not finite, or there is too little memory for a single image.
        """
        values, order = ranked(self.logits(self.normalized(pixels), ids))
        return order[:, : self.width].cpu().numpy(), values[:, : self.width].cpu().numpy()

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return what the network takes, on its device, of pixels in the geometry of ``preprocess``."""
        return self.preprocess.normalize(pixels.to(self.device, non_blocking=True))

    def logits(self, images: Tensor, ids: list[str]) -> Tensor:
        """Return the logits of images, float32 of shape (N, ``outputs``); the rest is as for :meth:`guess`.

        Args:
            images: Normalized images on its device.
            ids: Ids of the images, for messages.
        """
        try:
            logits = self._in_memory(images)
        except BcdzooError:
            raise
        except Exception as error:  # a user's network may raise anything
            which = f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else ids[0]
            raise BcdzooError(f"the network {self.title} fails on {which}: {_reason(error)}") from error
        if logits.shape != (len(images), self.outputs):
            raise BcdzooError(
                f"{self.title} returns logits of shape {tuple(logits.shape)} for {len(images)} images instead of "
                f"({len(images)}, {self.outputs}), a row for each image"
            )
        logits = logits.float()
        finite = logits.isfinite().all(dim=1)
        if not finite.all():
            raise BcdzooError(
                f"{self.title}: the logits of {ids[int(finite.int().argmin())]} are not finite: check the weights and "
                "the preprocessing"
            )
        return logits

    def _in_memory(self, images: Tensor) -> Tensor:
        while True:
            try:
                return torch.cat([self._logits(part) for part in images.split(self.step or len(images))])
            except torch.OutOfMemoryError:
                step = self.step or len(images)
                if step == 1:
                    raise BcdzooError(f"{self.title}: {self.device} has too little memory for a single image") from None
                if self.step is None:
                    say(f"{self.title}: out of memory with {step} images at once; continuing with fewer")
                self.step = step // 2
            torch.cuda.empty_cache()  # outside the handler, whose traceback keeps the maps alive

    def _logits(self, images: Tensor) -> Tensor:
        if self.mode.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self.mode.context(self.device):
            logits: Tensor = self.network(images)
        return logits

    def in_mode(self, mode: Mode) -> "EvalModel":
        """Return the same network, ready to run in a mode.

        Raises:
            BcdzooError: It cannot run in this mode.
        """
        return replace(self, mode=mode, loaded=replace(self.loaded, model=mode.prepare(self.network)))

    def try_out(self, shape: tuple[int, ...] | None = None) -> None:
        """Run one blank image, to find the number of outputs and to fail early.

        Args:
            shape: Shape of the image; None for that which ``preprocess`` gives.

        Raises:
            BcdzooError: The network fails, or returns something other than logits.
        """
        shape = shape or (3, self.preprocess.crop, self.preprocess.crop)
        try:
            logits = self._logits(torch.zeros(1, *shape, device=self.device))
        except Exception as error:  # a user's network or a compiler may raise anything
            size = "×".join(map(str, shape))
            raise BcdzooError(f"the network {self.title} fails on an image of {size}: {_reason(error)}") from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
            what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise BcdzooError(f"for one image {self.name} must return logits of shape (1, classes), not {what}")
        if logits.is_complex():
            raise BcdzooError(
                f"the logits of {self.name} are complex numbers, which cannot be ordered: return real ones"
            )
        self.outputs = logits.shape[1]


def ranked(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits in descending order, and the classes they are of; of equal ones the lower class goes first."""
    values, order = logits.sort(dim=1, descending=True, stable=True)  # torch.topk does not define that order
    return values, order


def load_eval_model(model: nn.Module | str, options: EvalOptions, device: torch.device, **build: Any) -> EvalModel:
    """Build and load a network; the arguments are those of :func:`bcdzoo.evaluate`.

    Raises:
        BcdzooError: It cannot be built or its weights do not fit.
    """
    if not isinstance(model, nn.Module | str):
        raise BcdzooError(f"a network must be a torch.nn.Module or a name, not {printable(repr(model), 60)}")
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)  # for a user's network that draws its own weights
        loaded = load_network(model, options.weights, options.manifest, **build)
    if 0 in (loaded.build.get("num_classes"), getattr(loaded.model, "num_classes", None)):
        raise BcdzooError(
            f"{loaded.name} was built without its classifier (num_classes=0): features are no predictions"
        )
    preprocess = options.preprocess
    preprocess_from = "given" if preprocess else "weights" if loaded.preprocess else "assumed"
    if not isinstance(preprocess, Preprocess):
        preprocess = parse(preprocess or loaded.preprocess or loaded.assumed or assumed(loaded.name))
    if isinstance(loaded.model, EngineModule):
        device = torch.device("cpu")  # the engine's
    loaded = replace(loaded, model=loaded.model.to(device, torch.float32).eval())
    return EvalModel(loaded, preprocess, preprocess_from, device, state=_state_hash(loaded.model))


def load_network(
    model: nn.Module | str, weights: str | Path | None = None, manifest: Path | None = None, **build: Any
) -> LoadedModel:
    """Load a network of the zoo, packed or not, or a user's own; the arguments are those of :func:`bcdzoo.evaluate`.

    Raises:
        BcdzooError: It cannot be built or its weights do not fit.
    """
    if isinstance(model, str) and is_address(model):
        return resolve(model, weights, manifest, **build)
    if isinstance(model, str) and is_onnx_file(model):
        if weights is not None:
            raise BcdzooError(f"{model} has weights of its own: omit the others")
        return resolve_qonnx(model, **build)
    if isinstance(model, str) and ":" not in model and is_packed_file(Path(model)):
        if weights is not None or build:
            raise BcdzooError(f"{model} is a packed network with weights of its own: omit weights and arguments")
        return resolve_packed(Path(model))
    if weights is not None and not is_address(weights) and is_packed_file(Path(weights)):
        if not isinstance(model, str):
            raise BcdzooError(f"{weights} is a packed network, not weights of a module: use bcdzoo.load_packed")
        return resolve_packed(Path(weights), model if ":" in model else find(model).name)
    if isinstance(model, str) and ":" not in model:
        model = find(model).name  # a misspelt name should get suggestions, not a search for its weights
        return resolve(model, weights, manifest, **build)
    label = sha256 = said = None
    if weights is not None:
        label = str(weights)
        if is_address(weights):
            weights, label = from_address(label)
        path, _ = split_part(weights)
        require_regular(path)
        said = read_metadata(path)
        sha256 = sha256_of(path)
    if isinstance(model, str):
        if said is not None and said.model == model:  # nothing is called because a file says so, but as it says
            build = said.build | build
        network, name = import_network(model, **build), model
    elif build:
        raise BcdzooError(f"{', '.join(build)}: only for a network that is given by its name; build yours so")
    else:
        network, name = model, type(model).__name__
    if weights is not None:
        load_into(network, weights)
    if said is not None:
        remember(network, said.preprocess, said.class_names)
    own = carried_preprocess(network)
    return LoadedModel(network, name, label, sha256, str(own) if own else None, build)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _state_hash(network: nn.Module) -> str:
    digest = hashlib.sha256(repr(network).encode())
    for source in sorted({_source(type(module)) for module in network.modules()}):
        digest.update(source)
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _source(kind: type) -> bytes:
    """Return the content of the file that defines a class; empty for torch's own, whose version is recorded."""
    if kind.__module__.startswith("torch."):
        return b""
    try:
        with open_regular(Path(inspect.getfile(kind))) as file:
            return file.read()
    except (OSError, TypeError, BcdzooError):  # defined interactively
        return b""
