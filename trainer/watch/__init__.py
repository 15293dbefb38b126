"""What is odd in a step: gradients that are not finite, a loss that jumps, and whose images.

- `step_watch`: looks at every step. `spikes`: when a loss jumps.
- `odd_steps`: the list of those that were odd.
"""
