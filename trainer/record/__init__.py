"""What a run leaves on disk.

- `run_folder`: whose folder it is, and what lies in it.
- `data_wait`: what its summary says of the data.
- `bad_samples`: the list of images that gray ones replaced.
- `log`: every sink, opened. `log_reader`: what it has written. `summary_csv`: the sink for programs
  that read timm's.
- `announcement`: what it says when it starts and when it is complete.
- `checkpoint`: written, found, read. `meta`: what one says beside the tensors.
- `saver`: makes one while the training goes on; `background` is its thread.
- `exit_file`: how its last process ended.
- `report`: `report.html`, the run as people look at it.
"""
