"""Around a family's blocks: stem, stages and what is between them, pooled features; no family.

- `pyramid`: Vision Permutator's and DynaMixer's. `overlapping_pyramid`: CycleMLP's and Hire-MLP's.
- `merging_pyramid`: Swin's, of AMixer and AS-MLP. `level_pyramid`: sMLPNet's and RaftMLP's.
- `token_classifier`: LV-ViT's and EAMLP's, with a class token.
"""
