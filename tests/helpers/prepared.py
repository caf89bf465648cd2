"""A Python that has imported torch and the package, and forks into the scripts that it is asked for.

A script runs as in a Python of its own, from its arguments and environment to its end, but for the seconds
that imports take. `python prepared.py FD` serves at a socket; helpers.commands asks.
"""

import atexit
import gc
import json
import os
import runpy
import socket
import sys


def serve(requests):
    """Answer requests for a script with its process id, and those for a process with its exit code.

    Returns:
        in a process that is to be a script, the script's path; None at the end.
    """
    import autocaption.evaluation.evaluate
    import autocaption.experiment  # noqa: F401

    gc.freeze()  # no script looks through what is imported
    atexit.register(gc.unfreeze)  # or libraries would say that it leaks
    for request in requests:
        asked = json.loads(request)
        if "pid" in asked:
            pid, status = os.waitpid(asked["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                requests.close()
                return become(**asked)
        print(json.dumps(answer), file=requests, flush=True)
    return None


def become(script, words, cwd, environment, outputs):
    """Take over a script's arguments, folder, environment and outputs."""
    os.setsid()
    os.chdir(cwd)
    for number, name in enumerate(outputs, start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0:1] = [os.path.dirname(script), *filter(None, environment.get("PYTHONPATH", "").split(":"))]
    sys.argv = [script, *words]
    return script


if __name__ == "__main__":
    if asked_for := serve(socket.socket(fileno=int(sys.argv[1])).makefile("rw")):
        runpy.run_path(asked_for, run_name="__main__")
