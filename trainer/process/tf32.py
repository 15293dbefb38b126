"""How float32 products are rounded on a GPU."""

import torch


def allow_tf32(allowed: bool) -> None:  # the name says what it is
    """Let float32 products and convolutions round their inputs to 10 bits on a GPU, or not."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed  # torch allows it by default, to convolutions alone
