"""What is fastest on this machine: `tools/tune.py` without its words.

- `candidates`: what is tried, the most promising first. `training_step`: a step to be timed.
- `contest`: candidates take turns within a budget of time; who won.
- `tuning`: all of it for one recipe, and what is kept.
"""
