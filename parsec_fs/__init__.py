"""parsec-fs: an encrypted, shared, verifiable folder. Imports nothing: the server loads it too."""

__version__ = "0.1.0"
