"""What keeps models from being faster, beside what `benchmarks.model_cost` counts.

- `measured_peaks`: what a processor does at most.
- `product_share`: how much of a step no arrangement can save.
- `model_bytes`, `bytes_tables`: what eager code reads and writes, and its tables.
"""
