"""Command-line tools, one verb per file: thin mains over the packages."""
