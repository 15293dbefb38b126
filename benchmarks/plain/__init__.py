"""Each paper's architecture transcribed, plainly and independently of `models`: oracle and peer.

- `dynamixer`, `vip`, `amixer`, `splitmixer`, `lvvit`, `gfnet`, `convmlp`, `eamlp`: the families.
  `pyramid`: what the first two share. `pointwise`: the MLP that most have alike.
"""
