"""The batch transform in one pass over the pixels, for GPUs.

- `batch_pass`: the operator of torch, with its plain form. `batch_pass_triton`: its kernel.
"""
