"""What the experiments on a GPU have in common.

- `experiment`: the command line, and cases that are written one by one.
- `about`: the machine, the GPU and the versions.
- `pictures`: photographs to decode and to train on.
- `batches`: of real loaders, without end. `device`: what is waited for.
- `launched`: programs of ours, started, and what a run has written.
"""
