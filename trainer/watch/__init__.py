"""What is odd in a step: gradients that are not finite, a loss that jumps, and whose images.

- `gradient_check`: which gradients are not finite. `spikes`: when a loss jumps.
- `step_watch`: looks at every step. `odd_steps`: the list of those that were odd.
"""
