"""Where the time of a training run goes: `tools/bench_loader.py` without its words.

- `measure`: all of it, for one recipe.
- `held_source`: some samples kept in memory, so that nothing is read.
- `stages`: each stage of loading measured alone, and all together; and the model.
- `verdict`: which of them is the bottleneck, and which setting to turn.
- `picture`: the stages as stacked bars.
"""
