"""Damage found, and mended.

- `check_shard`: a shard or FFCV file, sample by sample. `check_index`: what lies beside them.
- `check_images`: images of a source, before they are converted.
- `changes`: what has changed in the source since. `repair`: shards and index made again.
- `mend`: one folder checked, mended and checked again.
"""
