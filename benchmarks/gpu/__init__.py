"""What is measured on a GPU, and what can be known of it without one.

- `kernel_resources`: the Triton kernels compiled for a GPU that need not be there.
- `tables`: docs/gpu_speed.md.
"""
