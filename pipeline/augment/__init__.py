"""What is done to pixels, and with which numbers.

- `draws`: which crop, flip, erased box and mixing weight a sample gets.
- `batches`: what is done to whole batches, on the accelerator.
"""
