"""What is written above a training image: the classes of its target, with their shares."""

from collections.abc import Sequence

from torch import Tensor


def target_text(target: Tensor, classes: Sequence[str]) -> str:
    """Name the class of a target (K,), or two with their shares if images are mixed."""
    shares, positions = target.topk(min(2, len(target)))
    background = target.min()  # what label smoothing gives to every class
    first, *rest = [
        (classes[int(position)], float(share))
        for share, position in zip(shares, positions, strict=True)
        if share > background + 0.005
    ]
    if not rest:
        return first[0]
    return "\n".join(f"{share:.0%} {name}" for name, share in (first, *rest))
