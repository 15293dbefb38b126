"""Fused kernels for GPUs, written in Triton, behind operators of torch.

Each operator has a plain PyTorch form of the same signature, which runs wherever the kernel cannot:
on CPUs, in float64, and where Triton is not installed. `torch.compile` and `torch.export` see one
operator, with its shapes and its derivative.

- `switch`: whether models use the kernels.
- `triton_device`: where they can run.
- `axis_mixing`, `axis_mixing_triton`: DynaMixer's softmax and mixing of both axes.
- `depthwise`, `depthwise_triton`: channels-last depthwise convolution with its activation.
"""
