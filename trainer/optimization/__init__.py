"""What makes up an optimizer step; knows nothing of a run.

- `optim`, `optimizer_names`, `parameter_groups`: the optimizer, and what each weight gets of it.
- `schedule`: the rate of each step. `loss`: what is made smaller.
"""
