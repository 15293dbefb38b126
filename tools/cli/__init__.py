"""What the tools' command lines share.

- `source_options`, `output_options`: what is read, what is written. `targets`: what is meant.
- `model_options`: MODEL. `data_choice`: the images that it is measured on. `computing_options`: how
  many at once, where.
- `output_files`: what a tool writes is what its suffix says, and replaces nothing unasked; or it is
  `--json`.
- `part_options`: shares of an output. `numbers`: what options take.
- `exits`: what goes wrong, turned into words and an exit code.
- `progress`: how far a long job is, and its interruption.
"""
