"""torch operations that are known not to multiply tensors, except element by element."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


def packets(names: str) -> list[Any]:
    """Return the operations with these names and their in-place variants."""
    present = [getattr(aten, twin, None) for name in names.split() for twin in (name, name + "_")]
    return [packet for packet in present if packet is not None]


NORMS = packets(
    """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm
    native_layer_norm native_group_norm"""
)
FREE = set(
    packets(
        """_reshape_alias _to_copy _unsafe_view alias arange as_strided cat chunk clone constant_pad_nd contiguous copy
    detach empty empty_like expand flip full full_like gather index index_select lift_fresh masked_fill narrow new_empty
    new_full new_ones new_zeros ones ones_like permute pixel_shuffle pixel_unshuffle reflection_pad2d replication_pad2d
    repeat roll scalar_tensor select slice split split_with_sizes squeeze stack t transpose unbind unsqueeze view where
    zeros zeros_like"""
    )
)
"""Operations that only move or create data."""

_HARMLESS = {
    *FREE,
    *NORMS,
    *packets(
        """_fused_rms_norm _fused_moving_avg_obs_fq_helper batch_norm_elemt bucketize diagonal_scatter
        equal index_add index_copy index_put _index_put_impl index_reduce _local_scalar_dense masked_scatter
        masked_select put scatter scatter_add scatter_reduce searchsorted select_scatter slice_scatter
        as_strided_scatter set resize_as take _weight_norm_interface native_dropout rrelu_with_noise unsafe_split
        _assert_async _assert_tensor_metadata histc _prelu_kernel prelu"""
    ),
}
_ALONE = ("_fft", "linalg_", "_linalg", "matrix_exp", "_pdist", "cholesky", "stft", "_embedding_bag")
"""Prefixes of operations that multiply by internal constants, or a tensor by itself."""


def is_recognised(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation that depends on the images and is not a known product certainly multiplies no matrices.

    That is so if it is element-wise, a reduction, a view or a move, or if it has only one numeric tensor;
    unless it is not torch's own, because it may then hold weights.
    """
    if not isinstance(func, torch._ops.OpOverload) or func.namespace not in ("aten", "prim", "prims"):
        return False
    name = func._schema.name.partition("::")[2]
    if torch.Tag.pointwise in func.tags or func.is_view or func._overloadpacket in _HARMLESS:
        return True
    if name.startswith("linalg_vector_norm"):
        return True
    tensors = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor) and part.numel() > 1]
    if name.startswith(_ALONE):
        return name.startswith("_embedding_bag") and _floats(tensors) < 2
    return "fake_quantize" in name or _floats(tensors) < 2


def _floats(tensors: list[Tensor]) -> int:
    return sum(part.is_floating_point() or part.is_complex() or part.is_quantized for part in tensors)
