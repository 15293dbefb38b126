"""The loss against PyTorch's own."""

import torch
import torch.nn.functional as F

from trainer.loss import soft_target_cross_entropy


def test_the_loss_is_cross_entropy_with_soft_targets():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 5, generator=generator)
    targets = torch.rand(7, 5, generator=generator).softmax(1)
    expected = F.cross_entropy(logits.double(), targets.double())
    torch.testing.assert_close(soft_target_cross_entropy(logits, targets).double(), expected)
