"""Each paper's architecture transcribed, plainly and independently of `models`: oracle and peer.

- `dynamixer`, `vip`, `amixer`, `splitmixer`: the families. `pyramid`: what the first two share.
"""
