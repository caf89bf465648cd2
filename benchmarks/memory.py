import resource


def peak_megabytes() -> float:
    """Peak resident memory of this process or of its largest child, whichever is larger (Linux)."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) / 1000


def private_megabytes(process: int) -> float:
    """Memory that a process shares with no other (Linux)."""
    with open(f"/proc/{process}/smaps_rollup") as file:
        kilobytes = [
            int(line.split()[1]) for line in file if line.startswith(("Private_Clean", "Private_Dirty"))
        ]
    return sum(kilobytes) / 1000
