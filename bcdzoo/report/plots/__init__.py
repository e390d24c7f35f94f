"""The figures, one file each; every function returns a matplotlib figure (``bcdzoo plot``, the report)."""

import importlib.util

from bcdzoo.errors import BcdzooError

if importlib.util.find_spec("matplotlib") is None:
    raise BcdzooError("matplotlib is not installed: pip install 'bcdzoo[plot]'")
