"""What the model families are built of; knows no family.

- `basic`: patch embedding, MLP, stochastic depth, reweighting of branches.
- `arguments`: constructor arguments, checked. `classifier`: what timm expects of a classifier.
- `pyramid`, `overlapping_pyramid`, `merging_pyramid`, `level_pyramid`: trunks that families share:
  Vision Permutator's, CycleMLP's, Swin's, and sMLPNet's.
- `shifts`: tokens moved along a line. `norms`: of channels-first networks, for (B, H, W, C).
- `position_mixing`, `raft_mixing`: what a line's tokens exchange. `cross_embedding`: RaftMLP's.
- `mixing_matrices`: DynaMixer's operation and those of its ablation.
- `adaptive_mixing`, `amixer_windows`: AMixer's token mixer, and where its windows lie.
- `channel_splits`: SplitMixer's channel mixers.
- `attention`: to other tokens, or to memories. `global_filter`: GFNet's token mixer.
- `token_classifier`: classifiers of a class token. `mix_token`: a box from another image.
- `resampling`: weights of one token grid, brought to another.
- `layouts`: published names and shapes, brought to ours.
"""
