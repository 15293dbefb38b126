"""Token labels from end to end on the digits, with a small annotator of our own.

- `digits`: annotator, label maps and the students; writes the raw results.
- `tables`: the figures of docs/token_labels.md.
"""
