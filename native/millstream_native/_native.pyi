class Pool:
    """Threads that share out the images of a batch."""

    def __init__(self, threads: int) -> None:
        """Start that many (1 to 1024) threads."""

    @property
    def threads(self) -> int:
        """How many there are."""

    def close(self) -> None:
        """End the threads after the calls that have begun; later calls raise RuntimeError."""
