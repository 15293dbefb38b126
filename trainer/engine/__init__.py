"""DeepSpeed behind one small class, and the state that it shards.

- `process_group`: the ranks, joined. `deepspeed_config`: what DeepSpeed is told, from the recipe.
- `engine`: forward, backward and optimizer step of one rank. `gradient_check`: what of it
  is not finite.
- `masters`: the float32 weights that an optimizer steps, whatever the ZeRO stage.
- `state`: what a checkpoint holds of all that. `gather`, `scatter`: out of an engine, and into one.
"""
