"""What the tools' command lines share.

- `source_options`, `output_options`: what is read, what is written.
- `progress`: how far a long job is, and its interruption.
"""
