"""From a decoded image to a network's input: named presets, and a spec for everything else.

Importing this imports no torch, so that the names of the presets are cheap to know.
"""

from dataclasses import dataclass, fields
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, get_args

from bcdzoo.errors import BcdzooError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

type Triple = tuple[float, float, float]

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "tf-bicubic")
CHANNELS = ("rgb", "bgr")
