"""The loaders that `bench_loader` compares, a file for each family.

- `peers`: all of them by name. `peer`: what they have in common.
- `ours`, `limit`: this project's, and what its decoder does without a loader around it.
- `dali`, `timm_loader`, `torchvision_loader`, `web_dataset`, `ffcv_file`, `spdl_threads`: others;
  `opencv_crop`: the crop of the last ones that leave it to their user.
- `data_sets`: the same photographs in each loader's format.
- `measure`: one loader in a process of its own, or the growth of its memory.
"""
