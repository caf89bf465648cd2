"""Seeds drawn from names."""

import hashlib


def seed_of(*names: object) -> int:
    """A 63-bit seed drawn from names, such as ("augment", seed, epoch, image).

    The same names give the same seed in every process and on every machine, so random choices depend
    neither on the number of workers nor on earlier draws.
    """
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
