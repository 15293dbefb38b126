"""What is measured on a GPU, and what can be known of it without one.

- `kernel_resources`: the Triton kernels compiled for a GPU that need not be there.
- `precision_bytes`: what steps read and write, under autocast and with weights in bfloat16.
- `tables`: docs/gpu_speed.md.
"""
