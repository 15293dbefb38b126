"""timm's language of augmentation policies.

- `policy`: a policy, parsed. `policy_tables`: what policies choose from.
- `operations`: the operations by name. `levels`: how a magnitude becomes an argument.
"""
