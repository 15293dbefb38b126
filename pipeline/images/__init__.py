"""One encoded image: what it says of itself, whether it is usable, made anew.

- `names`: which files are images, and the key of a sample. `header`: size and kind, by the first
  bytes. `usable`: what must not get into a data set. `recode`: resized, encoded or brought to the
  plain form. `pixels`: raw pixels, wrapped as a PNG.
"""
