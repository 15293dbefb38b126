"""Each paper's architecture transcribed, plainly and independently of `models`: oracle and peer.

- `dynamixer`, `vip`, `amixer`, `splitmixer`, `lvvit`, `gfnet`, `convmlp`, `eamlp`, `cyclemlp`,
  `hire_mlp`, `as_mlp`, `smlpnet`, `raftmlp`, `s2_mlpv2`: the families.
- `pyramid`, `pointwise`: what several of them share.
"""
