import resource


def peak_megabytes() -> float:
    """The most memory that this process, or the largest of its children, has held (Linux)."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / 1000
