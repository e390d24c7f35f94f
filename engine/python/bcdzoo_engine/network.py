"""Networks from plan files (``net.bcz``, which ``bcdzoo export`` writes)."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bcdzoo_engine import _engine
from bcdzoo_engine.errors import EngineError, printable

if TYPE_CHECKING:
    from PIL import Image

_MOST_IMAGES = 1 << 20
_MOST_THREADS = 1024


def instruction_sets() -> list[str]:
    """Return the instruction sets of this processor, the fastest first."""
    return list(_engine.instruction_sets())


def load(path: str | os.PathLike[str], threads: int = 0, instructions: str | None = None) -> "Network":
    """Load a network, and check all of its file.

    Args:
        path: Plan file.
        threads: Number of threads that work on images; 0 for as many as there are processors.
        instructions: One of :func:`instruction_sets`; the fastest if omitted.

    Raises:
        EngineError: The file cannot be read, is damaged, no plan, or asks for too much; or an argument is out of range.
    """
    return Network(path, threads, instructions)


class Network:
    """A network that is ready to run; any number of threads may use it at once.

    Attributes:
        model: Name of the network.
        preprocess: Preprocessing of its images, such as ``resize=256,crop=224,interpolation=bilinear,mean=…,std=…,
            channels=rgb``; "" if unknown.
        classes: Names of the classes, in the order of the logits; empty if unknown.
        input_shape: Channels, height and width of an image.
        outputs: Number of logits of an image.
        threads: Number of threads in use.
        instructions: Instruction set in use.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 0, instructions: str | None = None) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise EngineError(f"a plan file is given by its path, not as {type(path).__name__}")
        if not isinstance(threads, int) or not 0 <= threads <= _MOST_THREADS:
            raise EngineError(f"threads must be a whole number from 0 to {_MOST_THREADS}")
        known = instruction_sets()
        if instructions is not None and instructions not in known:
            raise EngineError(f"this processor has {', '.join(known)}, not {printable(str(instructions), 100)}")
        self.threads, self.instructions = threads or _processors(), instructions or known[0]
        name = printable(os.fsdecode(path))
        try:
            self._network = _engine.Network(os.fsencode(path))
        except OSError as error:
            raise EngineError(f"cannot read {name}: {error}") from None
        except (ValueError, MemoryError) as error:
            reason = printable(str(error) or "out of memory", 300)
            raise EngineError(f"{name} cannot be used: {reason}; make it again with `bcdzoo export`") from None
        self.model: str = self._network.model
        self.preprocess: str = self._network.preprocess
        self.classes: tuple[str, ...] = tuple(self._network.class_names)
        channels, height, width = self._network.input
        self.input_shape: tuple[int, int, int] = channels, height, width
        self.outputs: int = self._network.output[0]

    def __repr__(self) -> str:
        return f"<{printable(self.model, 100)}: {self.input_shape} to {self.outputs} logits>"

    def __call__(self, images: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run images.

        Args:
            images: Pixels, uint8 of shape (N, H, W, 3), of the network's size, which become numbers as the plan's
                preprocessing says; or finite float32 of shape (N, C, H, W), preprocessed already.

        Returns:
            Logits, float32 of shape (N, :attr:`outputs`).

        Raises:
            EngineError: Images of another type or shape, too many, or not finite; or pixels of a plan that does not
                say what becomes of them.
        """
        channels, height, width = self.input_shape
        pixels, numbers = (height, width, 3), (channels, height, width)
        if not isinstance(images, np.ndarray):
            raise EngineError(f"images are a numpy array, not {type(images).__name__}")
        wanted = {"uint8": pixels, "float32": numbers}.get(images.dtype.name)
        if images.ndim != 4 or images.shape[1:] != wanted:
            takes = f"uint8 of shape (N, {_sizes(pixels)}) or float32 of shape (N, {_sizes(numbers)})"
            raise EngineError(f"this network takes {takes}, not {images.dtype} of shape {images.shape}")
        if len(images) > _MOST_IMAGES:
            raise EngineError(f"{len(images)} images are more than {_MOST_IMAGES}: give fewer at once")
        out = np.empty((len(images), self.outputs), np.float32)
        try:
            if images.dtype == np.uint8:
                self._network.run_pixels(np.ascontiguousarray(images), out, self.threads, self.instructions)
            else:
                self._network.run(_native(images), out, self.threads, self.instructions)
        except (ValueError, MemoryError, RuntimeError) as error:
            raise EngineError(str(error) or "out of memory: give fewer images at once") from None
        return out

    def classify(
        self, image: "str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]", top: int = 5
    ) -> list[tuple[str, float]]:
        """Name the likeliest classes of a picture of any size, which is resized and cropped as the plan says.

        Args:
            image: File, picture of Pillow, or uint8 of shape (H, W, 3). It takes Pillow: ``bcdzoo-engine[pillow]``.
            top: Number of classes.

        Returns:
            Name (or number, if the plan has no names) and probability of each, the likeliest first.

        Raises:
            EngineError: It is no usable picture, the plan does not say how to resize it, or there is no Pillow.
        """
        from bcdzoo_engine.pictures import prepared

        if not isinstance(top, int) or top < 1:
            raise EngineError("top must be a whole number above 0")
        logits = self(prepared(image, self.preprocess)[None])[0].astype(np.float64)
        odds = np.exp(logits - logits.max())
        odds /= odds.sum()
        likeliest = np.argsort(-odds, kind="stable")[:top]
        return [(self.classes[i] if self.classes else str(i), float(odds[i])) for i in likeliest]


def _processors() -> int:
    """How many processors this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, _MOST_THREADS)


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def _native(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The same numbers as the engine reads them: in this machine's order of bytes, whole numbers apart."""
    if images.dtype.isnative and not any(step % images.itemsize for step in images.strides) and images.flags.aligned:
        return images
    return np.ascontiguousarray(images, np.float32)
