"""Data made and kept: training never imports this.

- `layouts`: other people's data sets, listed.
- `writers`: one output, to a complete file.
- `conversion`: a whole split: planned, shared out, resumed, proved.
- `checking`: damage found, and mended.
"""
