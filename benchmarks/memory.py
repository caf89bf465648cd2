import resource


def peak_megabytes() -> float:
    """Peak resident memory of this process or of its largest child, whichever is larger (Linux)."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / 1000
