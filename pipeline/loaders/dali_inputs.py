"""The drawn operations as arrays: what DALI's graph of `pipeline.loaders.dali_operations` takes.

Each place of a chain (`ImageAugmentation.places`) has a branch number for every image, and the
parameters of those branches that the recipe can ever take there.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.image_draws import ImageAugmentation, ImageDraws
from pipeline.augment.kernels import Kernel, KernelCalls, kernel_calls, kernels_of
from pipeline.augment.policies.operations import Filter
from pipeline.augment.policy_draws import MixedDraws

Arrays = dict[str, NDArray[np.generic]]
"""By name; the first axis is that of the B images."""


class Branch(IntEnum):
    """The ways through one place of the graph, few since each divides the batch."""

    NONE = 0
    POINT = 1
    AUTO_CONTRAST = 2
    EQUALIZE = 3
    BLEND = 4
    AFFINE = 5
    BOX_BLUR = 6
    GAUSSIAN_BLUR = 7
    HUE = 8


_BRANCHES = {
    Kernel.AUTO_CONTRAST: Branch.AUTO_CONTRAST,
    Kernel.EQUALIZE: Branch.EQUALIZE,
    Kernel.INVERT: Branch.POINT,
    Kernel.POSTERIZE: Branch.POINT,
    Kernel.SOLARIZE: Branch.POINT,
    Kernel.SOLARIZE_ADD: Branch.POINT,
    Kernel.BRIGHTNESS: Branch.BLEND,
    Kernel.CONTRAST: Branch.BLEND,
    Kernel.COLOR: Branch.BLEND,
    Kernel.SHARPNESS: Branch.BLEND,
    Kernel.AFFINE: Branch.AFFINE,
    Kernel.GRAYSCALE: Branch.BLEND,
    Kernel.GAUSSIAN_BLUR: Branch.BOX_BLUR,
    Kernel.HUE: Branch.HUE,
    Kernel.GAUSSIAN_BLUR_23: Branch.GAUSSIAN_BLUR,
}
_BRANCH_OF = np.array([_BRANCHES.get(kernel, Branch.NONE) for kernel in Kernel], np.int32)
_BLURS = frozenset({Branch.BOX_BLUR, Branch.GAUSSIAN_BLUR})
_PASSES = 3
"""Boxes whose succession PIL takes for a Gaussian."""
_TAPS = 23
"""Of torchvision's Gaussian kernel."""


class Place(NamedTuple):
    """One place of a chain.

    Attributes:
        name: begins the names of its arrays.
        kernels: what it can do.
    """

    name: str
    kernels: frozenset[Kernel]

    @property
    def branches(self) -> frozenset[Branch]:
        """The branches of its kernels."""
        return frozenset(_BRANCHES[kernel] for kernel in self.kernels)

    def arrays(self, codes: NDArray[np.uint8], args: NDArray[np.float64]) -> Arrays:
        """Return the arrays of B images, by the names that the graph knows; see `KernelCalls`.

        Args:
            codes: (B,) of `Kernel`.
            args: (B, 6).
        """
        branches = _BRANCH_OF[codes]
        arrays: Arrays = {"branch": branches}
        factors = np.where(codes == Kernel.GRAYSCALE, 0.0, args[:, 0])
        if Branch.POINT in self.branches:
            arrays["points"] = _points(codes, args[:, 0])
        if Branch.BLEND in self.branches:
            toward = np.where(codes == Kernel.GRAYSCALE, np.uint8(Kernel.COLOR), codes)
            arrays["toward"] = toward.astype(np.int32)
            arrays["factor"] = factors.astype(np.float32)
        if Branch.AFFINE in self.branches:
            arrays["matrix"] = args.reshape(-1, 2, 3).astype(np.float32)
        if self.branches & _BLURS:
            blurred = np.isin(branches, list(_BLURS))
            arrays["taps"] = _taps(np.where(blurred, codes, 0), args[:, 0])
        if Branch.HUE in self.branches:
            # As PIL adds it to its hues of 8 bits.
            arrays["turn"] = np.trunc(args[:, 0] * 255).astype(np.int32)
        return {f"{self.name}.{name}": array for name, array in arrays.items()}


class Places(NamedTuple):
    """The places of all chains.

    Attributes:
        chain: what every image goes through.
        mixed: AugMix's chains, each of as many places; none without AugMix.
        filters: of all resampling operations.
        blended: AugMix's chains are blended into the image in turn.
    """

    chain: tuple[Place, ...]
    mixed: tuple[tuple[Place, ...], ...]
    filters: frozenset[Filter]
    blended: bool

    def arrays(self, draws: ImageDraws, size: int) -> Arrays:
        """Return what the graph takes besides the `size` x `size` images."""
        calls = kernel_calls(draws.chain, size)
        arrays = self._chain_arrays(self.chain, calls)
        if draws.mixed is not None:
            calls = kernel_calls(draws.mixed.chains, size)
            for row, chain in enumerate(self.mixed):
                codes, args, filters = calls
                of_chain = KernelCalls(codes[:, row], args[:, row], filters[:, row])
                arrays |= self._chain_arrays(chain, of_chain)
            arrays |= _mixing_arrays(draws.mixed)
        return arrays

    def _chain_arrays(self, chain: tuple[Place, ...], calls: KernelCalls) -> Arrays:
        arrays: Arrays = {}
        for column, place in enumerate(chain):
            arrays |= place.arrays(calls.codes[:, column], calls.args[:, column])
            if Branch.AFFINE in place.branches and Filter.BICUBIC in self.filters:
                arrays[f"{place.name}.is_bicubic"] = calls.filters[:, column] == Filter.BICUBIC
        return arrays


def places_of(augmentation: ImageAugmentation) -> Places:
    """Return the places that the augmentation needs."""
    chain = tuple(
        Place(f"{number}", kernels_of(operations))
        for number, operations in enumerate(augmentation.places)
    )
    policy, mixed, blended = augmentation.policy, (), False
    if policy is not None and policy.mixing is not None:
        depth, blended = policy.mixing.longest, policy.mixing.blended
        places = [
            Place(f"mixed{number}", kernels_of(operations))
            for number, operations in enumerate(policy.places)
        ]
        starts = range(0, len(places), depth)
        mixed = tuple(tuple(places[start : start + depth]) for start in starts)
    if policy is not None and policy.is_torchvision:
        filters = {Filter.NEAREST}
    elif augmentation.interpolation == "random":
        filters = {Filter.BILINEAR, Filter.BICUBIC}
    else:
        filters = {Filter[augmentation.interpolation.upper()]}
    return Places(chain, mixed, frozenset(filters), blended)


def _mixing_arrays(mixed: MixedDraws) -> Arrays:
    """Return the weights of AugMix; in turn, each is a share of what the later ones leave."""
    if not mixed.blended:
        return {"weights": mixed.weights, "share": mixed.shares}
    weights = mixed.weights * mixed.shares[:, None]
    left = np.ones(len(weights), np.float32)
    for chain in reversed(range(weights.shape[1])):
        weights[:, chain] /= left
        left *= 1 - weights[:, chain]
    return {"weights": weights}


def _points(codes: NDArray[np.uint8], args: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return (B, 4) numbers t, a, f, m: a value v becomes ((v < t ? v + a : v ^ f) & m."""
    points = np.tile(np.array([0, 0, 0, 255], np.int32), (len(codes), 1))
    flipped = (codes == Kernel.INVERT) | (codes == Kernel.SOLARIZE)
    points[flipped, 2] = 255
    solarized, added = codes == Kernel.SOLARIZE, codes == Kernel.SOLARIZE_ADD
    points[solarized, 0] = np.ceil(args[solarized])
    points[added, 0] = 128
    points[added, 1] = args[added]
    posterized = codes == Kernel.POSTERIZE
    points[posterized, 3] = 256 - 2 ** (8 - args[posterized].astype(np.int64))
    return points


def _taps(codes: NDArray[np.uint8], args: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (B, N, 1) kernels of blurs along one axis; others' are not used."""
    kernels = [
        _gaussian(arg) if code == Kernel.GAUSSIAN_BLUR_23 else _boxes(arg if code else 0.0)
        for code, arg in zip(codes, args.tolist(), strict=True)
    ]
    longest = max(map(len, kernels), default=1)
    taps = np.zeros((len(codes), longest, 1), np.float32)
    for row, kernel in zip(taps, kernels, strict=True):
        margin = (longest - len(kernel)) // 2
        row[margin : longest - margin, 0] = kernel
    return taps


def _gaussian(deviation: float) -> NDArray[np.float64]:
    """Return torchvision's kernel."""
    kernel = np.exp(-0.5 * ((np.arange(_TAPS) - _TAPS // 2) / deviation) ** 2)
    return kernel / kernel.sum()


def _boxes(radius: float) -> NDArray[np.float64]:
    """Return what three of PIL's boxes of fractional size (Gwosdek et al. 2011) do together."""
    variance = radius * radius / _PASSES
    whole = int((np.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    part /= 6 * (variance - (whole + 1) ** 2)
    box = np.ones(2 * whole + 3)
    box[[0, -1]] = part
    box /= box.sum()
    return np.convolve(np.convolve(box, box), box)
