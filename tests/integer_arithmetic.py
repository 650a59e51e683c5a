"""INT8 layers in int64, from their definitions and without the code under test."""

import itertools

import numpy as np


def codes_of(values: np.ndarray, scale: np.float32) -> np.ndarray:
    """Round half to even, as `np.rint` does, by the definition in float32."""
    return np.clip(np.rint(values / scale), -128, 127).astype(np.int64)


def weight_codes(weight: np.ndarray, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
    """One output channel after the other, without the code under test."""
    moved = weight[None] if axis is None else np.moveaxis(weight, axis, 0)
    codes, scales = [], []
    for channel in moved:
        amax = np.float32(np.abs(channel).max())
        scale = amax / np.float32(127) if amax else np.float32(1)
        codes.append(np.rint(channel / scale).astype(np.int64))
        scales.append(scale)
    stacked = np.stack(codes)
    return (stacked[0] if axis is None else np.moveaxis(stacked, 0, axis)), np.array(scales, np.float32)


def integer_conv(x: np.ndarray, w: np.ndarray, stride: int, pad: int, groups: int) -> np.ndarray:
    """Plain loops over output positions, in int64; any number of spatial axes."""
    spatial = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0)] + [(pad, pad)] * spatial)
    kernel = w.shape[2:]
    sides = [(x.shape[2 + i] - kernel[i]) // stride + 1 for i in range(spatial)]
    out = np.zeros((x.shape[0], w.shape[0], *sides), np.int64)
    per_group_in, per_group_out = w.shape[1], w.shape[0] // groups
    for channel in range(w.shape[0]):
        start = (channel // per_group_out) * per_group_in
        for position in itertools.product(*map(range, sides)):
            window = tuple(slice(p * stride, p * stride + k) for p, k in zip(position, kernel, strict=True))
            patch = x[(slice(None), slice(start, start + per_group_in), *window)]
            out[(slice(None), channel, *position)] = (patch * w[channel]).reshape(len(x), -1).sum(1)
    return out


def integer_deconv(x: np.ndarray, w: np.ndarray, stride: int, pad: int, output_padding: int) -> np.ndarray:
    """Scatter every input pixel into the output, in int64 (2-D, one group)."""
    height, width = ((side - 1) * stride + w.shape[2] + output_padding for side in x.shape[2:])
    out = np.zeros((x.shape[0], w.shape[1], height, width), np.int64)
    for row, column in itertools.product(range(x.shape[2]), range(x.shape[3])):
        for i, j in itertools.product(range(w.shape[2]), range(w.shape[3])):
            out[:, :, row * stride + i, column * stride + j] += x[:, :, row, column] @ w[:, :, i, j]
    return out[:, :, pad : height - pad, pad : width - pad]
