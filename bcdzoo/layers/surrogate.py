"""One value forward, another function's derivative backward."""

from torch import Tensor


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """``value``, exactly, with the gradient of ``surrogate``.

    Args:
        value: What the forward pass computes; its own gradient is cut.
        surrogate: A finite differentiable function of the same inputs, of the same shape.

    Returns:
        The shape and dtype of ``value``.
    """
    return value.detach() + (surrogate - surrogate.detach())
