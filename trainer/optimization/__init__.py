"""What makes up an optimizer step; nothing of it knows of a run.

- `optim`, `optimizer_names`, `parameter_groups`: the optimizer, and what each weight gets of it.
- `schedule`: the rate of each step. `loss`: what is made smaller.
  `token_labels`: that of labels of tokens.
- `model_draws`: what the model itself draws.
"""
