"""One output, to a complete file.

- `job`: what a worker anywhere needs to write one; an image as it is to be stored.
- `shard_writer`: a shard. `shard_record`: what became of it, until the conversion is complete.
- `ffcv_config`, `ffcv_writer`: an FFCV file. `ffcv_library`: the only place that imports FFCV.
- `folder_writer`: class folders again. `token_label_writer`: label maps that go with a split.
"""
