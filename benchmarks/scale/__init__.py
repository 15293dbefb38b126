"""Sizes that are not here: thousands of ranks, tens of millions of images.

- `ranks`: the order and the draws of every rank, made and checked in one process.
- `page`: the table of docs/scale.md.
"""
