"""How a global batch is made of what the ranks hold at once, and the nearest that works."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchPlan:
    """How a global batch is made: `per_gpu` images x `accumulation` rounds x `world_size` ranks."""

    per_gpu: int
    accumulation: int
    world_size: int

    @classmethod
    def solve(
        cls, *, global_size: int, per_gpu: int, world_size: int, even: bool = False
    ) -> "BatchPlan":
        """Find the accumulation; `even` says that a remedy must name an even `per_gpu`.

        Raises:
            ValueError: if the global batch is not a multiple; names the nearest that works.
        """
        at_once = per_gpu * world_size
        if global_size % at_once:
            fits = fitting_per_gpu(global_size, per_gpu=per_gpu, world_size=world_size, even=even)
            factor = f"2 x the {world_size} ranks" if even else f"the {world_size} ranks"
            remedy = (
                f"use per_gpu {fits}"
                if fits
                else f"use a global_size that is a multiple of {factor}"
            )
            raise ValueError(
                f"batch.global_size: {global_size} is not a multiple of per_gpu {per_gpu} x"
                f" {world_size} ranks = {at_once}; {remedy}"
            )
        accumulation = global_size // at_once
        return cls(per_gpu=per_gpu, accumulation=accumulation, world_size=world_size)


def fitting_per_gpu(global_size: int, *, per_gpu: int, world_size: int, even: bool) -> int | None:
    """The number of images at once nearest to `per_gpu` that makes up the global batch.

    It is not above `per_gpu`, which the memory holds, unless there is no other.
    """
    fits = per_gpu_sizes(global_size, world_size=world_size, even=even)
    below = [n for n in fits if n <= per_gpu]
    return below[-1] if below else next(iter(fits), None)


def per_gpu_sizes(global_size: int, *, world_size: int, even: bool) -> list[int]:
    """All numbers of images at once that make up the global batch, rising."""
    share = global_size // world_size if global_size % world_size == 0 else 0
    return [n for n in range(1, share + 1) if share % n == 0 and not (even and n % 2)]
