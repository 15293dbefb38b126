"""Optimization: from batches to a checkpointed, measured model."""
