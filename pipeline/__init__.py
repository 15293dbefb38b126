"""Data: from a stored image to an augmented batch. Knows nothing of models or training.

What training needs:

- `batch`, `config`, `errors`: the central types, and all that a user can be told, with the
  numbers of `words`.
- `command_line`, `exit_codes`, `quiet_interrupt`: what all programs here share.
- `order`: which sample comes when, with the random numbers of `counter`; a pure function of
  (seed, epoch).
- `storage`: bytes on disk, in tars, in object stores. `images`: one encoded image.
- `formats`: samples by index, of class folders, WebDataset shards and FFCV files.
- `augment`: what is done to pixels, and with which numbers.
- `loaders`: samples to batches.

And the second storey, which training never imports:

- `prepare`: making data, checking it and mending it.
"""
