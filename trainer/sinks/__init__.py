"""Where a run's events go, beside its log.

- `console`: the terminal, or lines in a file. `run_view`: what is known of a run from its events.
  `display`: that in a few lines.
- `place`: which run a sink is of. `scalars`: the figures of an event.
- `tensorboard_sink`, `wandb_sink`, `trackio_sink`: who draws them.
- `chosen`: those that a recipe asks for, none of which can end a run.
"""
