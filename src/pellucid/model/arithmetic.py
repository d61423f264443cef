"""The arithmetic of layers: sizes, parameters, multiply-accumulates, receptive fields.

Whole numbers in, whole numbers out, nothing to run: what a course works out on the blackboard. Kernels and
maps are (height, width). A written network is checked with it before anything is built; `summary`, which
measures any network with torch, must agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.errors import ShapeError


def output_size(
    size: int, kernel: int, *, padding: int = 0, stride: int = 1, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """Side length of a convolution's or pooling's output, in pixels: floor((W - K_eff + 2P) / S) + 1.

    `ceil_mode` rounds up, so that a pooling keeps the ragged edge; no window starts in the padding beyond it.
    Raises ShapeError when the (dilated) kernel does not fit into the padded input.
    Source: Dumoulin & Visin 2016, arXiv 1603.07285, relation 14; ceil_mode as in torch.nn.MaxPool2d.
    """
    if min(size, kernel, stride, dilation) < 1 or padding < 0:
        raise ShapeError(
            f"size {size}, kernel {kernel}, stride {stride} and dilation {dilation} must be at least 1 "
            f"and padding {padding} at least 0. Give positive whole numbers."
        )
    room = size - effective_kernel(kernel, dilation) + 2 * padding
    steps = -(-room // stride) if ceil_mode else room // stride
    if ceil_mode and steps * stride >= size + padding:
        steps -= 1
    if steps < 0:
        needed = smallest_input(1, kernel, padding=padding, stride=stride, dilation=dilation)
        dilated = f" (dilated to {effective_kernel(kernel, dilation)})" if dilation > 1 else ""
        raise ShapeError(
            f"a kernel of K = {kernel}{dilated} does not fit into an input of W = {size} with padding "
            f"P = {padding} and stride S = {stride}: it needs at least W = {needed}. "
            "Use a larger input, a smaller kernel or more padding."
        )
    return steps + 1


def smallest_input(output: int, kernel: int, *, padding: int = 0, stride: int = 1, dilation: int = 1) -> int:
    """The smallest input side, in pixels, that gives at least `output`: `output_size` turned around."""
    return max(1, (output - 1) * stride + effective_kernel(kernel, dilation) - 2 * padding)


def effective_kernel(kernel: int, dilation: int) -> int:
    """Side of the window that a dilated kernel spans, in pixels: K_eff = D (K - 1) + 1."""
    return dilation * (kernel - 1) + 1


def same_padding(kernel: int, dilation: int = 1) -> int:
    """The padding on each side that keeps the size at stride 1: (K_eff - 1) / 2.

    Raises ShapeError for an even window, which would need one pixel more on one side than on the other.
    """
    both_sides = effective_kernel(kernel, dilation) - 1
    if both_sides % 2:
        raise ShapeError(
            f"a {both_sides + 1} pixel window cannot keep the size with equal padding on both sides. "
            f"Use an odd kernel, such as {kernel + 1}, or a number as padding."
        )
    return both_sides // 2


def conv_parameters(
    in_channels: int, out_channels: int, kernel: tuple[int, int], *, groups: int = 1, bias: bool = True
) -> int:
    """Weights and biases of a convolution: a filter has K_h x K_w weights per input channel of its group."""
    return out_channels * (in_channels // groups * kernel[0] * kernel[1] + bias)


def conv_macs(
    in_channels: int, out_channels: int, kernel: tuple[int, int], output: tuple[int, int], *, groups: int = 1
) -> int:
    """Multiply-accumulates of a convolution for one picture: every weight once per position of the output."""
    weights = conv_parameters(in_channels, out_channels, kernel, groups=groups, bias=False)
    return weights * output[0] * output[1]


def dense_parameters(inputs: int, outputs: int, *, bias: bool = True) -> int:
    """Weights and biases of a fully connected layer."""
    return outputs * (inputs + bias)


def dense_macs(inputs: int, outputs: int) -> int:
    """Multiply-accumulates of a fully connected layer for one picture: every weight once."""
    return dense_parameters(inputs, outputs, bias=False)


@dataclass(frozen=True)
class ReceptiveField:
    """What one value sees along one axis, in pixels: its window, and the step to its neighbor's window."""

    size: int = 1
    jump: int = 1

    def through(self, kernel: int, *, stride: int = 1, dilation: int = 1) -> ReceptiveField:
        """The receptive field after one more convolution or pooling. Padding does not change it.

        Source: Araujo, Norris & Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks",
        doi 10.23915/distill.00021.
        """
        size = self.size + (effective_kernel(kernel, dilation) - 1) * self.jump
        return ReceptiveField(size, self.jump * stride)
