"""Where a network looks: Grad-CAM of an image (the poster's figure; Selvaraju et al., ICCV 2017)."""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from bcdzoo.data.classes import names
from bcdzoo.data.imagenet import decode
from bcdzoo.data.preprocess import Preprocess
from bcdzoo.errors import BcdzooError
from bcdzoo.report.plots.style import new_figure, styled
from bcdzoo.text import printable, say


@styled
def cam(model: nn.Module, image: Path, preprocess: Preprocess, title: str, target: int | None = None) -> Figure:
    """Draw an image as the network sees it, and over it what speaks for a class.

    The maps are those of the network's last layer with more than one pixel. The gradient through signs is their
    surrogate's, as in training.

    Args:
        model: Network in evaluation mode, from float32 images of shape (1, 3, H, W) to logits.
        image: Image file.
        preprocess: Preprocessing of the weights.
        title: Name of the network.
        target: Class index; None for the network's first guess.

    Raises:
        BcdzooError: The file is not an image, there is no such class, or the network has no maps or gradients.
    """
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        raise BcdzooError("pytorch-grad-cam is not installed: pip install 'bcdzoo[plot]'") from None
    pixels = _pixels(image, preprocess)
    images = preprocess.normalize(pixels[None])
    with torch.inference_mode():
        logits = model(images)[0]
    guess = int(logits.argmax())
    if target is not None and target not in range(len(logits)):
        raise BcdzooError(f"no class {target}: the network has 0 to {len(logits) - 1}")
    of = guess if target is None else target
    maps = last_maps(model, images)
    try:
        with GradCAM(model, [maps]) as grad_cam:
            heat = grad_cam(images, [ClassifierOutputTarget(of)])[0]
    except Exception as error:  # a user's network may raise anything
        raise BcdzooError(f"there is no gradient of {title} to plot: {' '.join(str(error).split())[:300]}") from error
    words = class_words(model, len(logits))
    seen = pixels.permute(1, 2, 0).numpy() / 255
    figure, (left, right) = new_figure(6.5, 3.4, ncols=2)
    left.imshow(seen)
    left.set_title(f"{printable(image.name, 40)}\ntop-1 prediction: {words[guess]}", loc="left", fontsize=8)
    right.imshow(seen, alpha=0.45)
    drawn = right.imshow(heat, cmap="viridis", alpha=0.55, vmin=0, vmax=1)
    right.set_title(f"{printable(title, 40)}\nGrad-CAM of {words[of]}", loc="left", fontsize=8)
    for axes in (left, right):
        axes.axis("off")
    scale = figure.colorbar(drawn, ax=right, fraction=0.046, pad=0.03)
    scale.set_label("Grad-CAM, its maximum = 1")
    return figure


def _pixels(image: Path, preprocess: Preprocess) -> Tensor:
    """What the network is shown, (3, H, W) of 0..255."""
    try:
        return preprocess.geometry.pixels(decode(image.read_bytes())).clamp(0, 255)
    except FileNotFoundError:
        raise BcdzooError(f"no file {image}") from None
    except Exception as error:  # Pillow's decoders may raise anything on a broken file
        raise BcdzooError(f"{image} is not an image that can be read: {' '.join(str(error).split())}") from error


def last_maps(model: nn.Module, images: Tensor) -> nn.Module:
    """The outermost of the last modules that give maps, (N, C, H, W) of more than one pixel.

    Raises:
        BcdzooError: None does.
    """
    found: list[nn.Module] = []

    def note(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            found.append(module)

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    with torch.inference_mode():
        model(images)
    for hook in hooks:
        hook.remove()
    if not found:
        raise BcdzooError("the network has no layer whose output is a map of more than one pixel")
    return found[-1]  # hooks of the outer modules run after those of their parts


def class_words(model: nn.Module, classes: int) -> list[str]:
    """What to call each output: its number, and its name where the weights have names.

    A network of 1000 outputs without names is taken for one of ImageNet, and that is said.
    """
    known = getattr(model, "class_names", None)
    if known is None and classes == len(names()):
        say("its 1000 outputs have no names of their own: those of ImageNet are assumed")
        known = names()
    if known is None or len(known) != classes:
        return [f"class {index}" for index in range(classes)]
    return [f"{printable(name.partition(',')[0], 40)} (class {index})" for index, name in enumerate(known)]
