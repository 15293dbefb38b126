"""Samples by index: all that training reads.

- `source`: what a format offers. `open`: which format a folder is in. `observed_source`: one that
  tells what is read. `token_label_file`: maps of labels that go with a split.
- `folder_source`, `shard_source`, `remote_source`, `ffcv_source`: the four formats.
- `class_folders`: a folder of class folders, listed. `scan`: the list that every layout yields.
- `shard_folder`: names and state of a folder of shards. `index`: where each sample lies in it.
- `dali_index`: DALI's index of a shard. `ffcv_tables`: the tables of an FFCV file.
- `shard_cache`, `shard_prefetch`: shards from a URL, kept on a local disk, fetched ahead.
"""
