"""Packages for a machine with a GPU and without a network.

- `pack`: wheels into archives, without what one Python and one kind of GPU do not need.
- `slim`: code for other GPUs, taken out of libraries.
- `unpack`: archives, verified, into a folder for PYTHONPATH; it needs Python alone.
"""
