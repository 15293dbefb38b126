"""What the tools' command lines share.

- `source_options`, `output_options`: what is read, what is written.
- `exits`: exit codes, and what goes wrong turned into one of them and into words.
- `progress`: how far a long job is, and its interruption.
"""
