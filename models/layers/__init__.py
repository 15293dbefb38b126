"""What the model families are built of; knows no family.

- `basic`: patch embedding, MLP, stochastic depth, reweighting of branches.
- `arguments`: constructor arguments, checked. `classifier`: what timm expects of a classifier.
- `shifts`: tokens moved along a line. `norms`: of channels-first networks, for (B, H, W, C).
- `position_mixing`: what a line's tokens exchange. `rafts`: RaftMLP's embedding and mixing.
- `mixing_matrices`: DynaMixer's operation and those of its ablation.
- `adaptive_mixing`, `amixer_windows`: AMixer's token mixer, and where its windows lie.
- `channel_splits`: SplitMixer's channel mixers.
- `attention`: to other tokens, or to memories. `global_filter`: GFNet's token mixer.
- `mix_token`: a box from another image.
- `resampling`: weights of one token grid, brought to another.
- `layouts`: published names and shapes, brought to ours.
"""
