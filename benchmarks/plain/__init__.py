"""Each paper's architecture transcribed, plainly and independently of `models`: oracle and peer."""
