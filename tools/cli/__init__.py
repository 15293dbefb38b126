"""What the tools' command lines share.

- `source_options`, `output_options`: what is read, what is written. `model_options`: MODEL.
- `output_files`: what a tool writes is what its suffix says, and replaces nothing unasked.
- `part_options`: shares of an output. `numbers`: what options take.
- `exits`: exit codes, and what goes wrong turned into one of them and into words.
- `progress`: how far a long job is, and its interruption.
"""
