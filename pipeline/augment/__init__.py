"""Augmentation of whole batches of tensors, on the accelerator."""
