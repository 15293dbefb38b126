"""How a model is computed fastest on the machine at hand, found by `tools/tune.py`.

- `choice`: what there is to choose. `cache`: what was found, on disk, by machine and model.
- `tuned`: a recipe with what was found in it.
"""
