"""Data: from a JPEG on disk to an augmented batch. Knows nothing of models or training.

- `batch`, `config`: the central types.
- `order`, `draws`: which sample comes when, and which crop, flip and box it gets; pure functions
  of (seed, epoch, sample), with the random numbers of `counter`.
- `formats`: how samples lie on disk (folders, WebDataset shards, FFCV files).
- `augment`: what is done to one image (`images`) and to the whole batch (`batches`).
- `loaders`: how samples become batches (DALI; a PIL reference as its oracle).
"""
