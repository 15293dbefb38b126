"""What is measured against peers and papers; never shipped, and nothing shipped imports it."""
