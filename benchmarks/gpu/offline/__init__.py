"""What can be known of a GPU's work without one.

- `kernel_resources`: the Triton kernels compiled for a GPU that need not be there.
- `precision_bytes`: what steps read and write, under autocast and with weights in bfloat16.
"""
