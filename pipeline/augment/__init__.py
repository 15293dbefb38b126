"""What is done to pixels, and with which numbers.

- `config`: what may be configured.
- `policies`: timm's language of policies.
- `image_draws`: the operations of single images, together: `policy_draws`, then `colour_draws`.
- `crop_draws`: which part of an image, and which flips. `erase_draws`: which boxes are erased.
  `mix_draws`: how images are mixed.
- `variates`, `boxes`: the laws that the draws follow.
- `kernels`: drawn operations as the few that an engine needs. `reference_operations`: as PIL's.
- `batches`: what is done to whole batches, on the accelerator; `fused`: in one pass.
  `token_labels`: targets of tokens.
"""
