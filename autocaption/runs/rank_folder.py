"""What the ranks of a run share on disk: rank 0's configuration, and the failure that ends them all."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from autocaption.errors import UserError
from autocaption.exits import unforeseen
from autocaption.files import beside, write_private_json
from autocaption.mistakes import mistake

TICK = 0.5  # seconds between two looks at the other ranks
GRACE = 15.0  # seconds in which a rank that waits for a failed one ends by itself (gloo), or not (NCCL)
CONFIG, FAILURE = "config.json", "failure"


class RankFolder:
    """The folder `.ranks` of a run folder, which only its owner may read, while several ranks run.

    All nodes must share the file system that runs lie on. Rank 0 makes it, removes it, and is the only one to
    print an error: that of the rank that failed first, and not what other ranks say of lost connections.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._children: list[subprocess.Popen] = []

    @classmethod
    def create(cls, run_folder: Path, config: Mapping[str, Any]) -> "RankFolder":
        """Hand over a configuration, secrets included."""
        path = run_folder / ".ranks"
        shutil.rmtree(path, ignore_errors=True)  # of a killed run
        path.mkdir(mode=0o700)
        write_private_json(path / CONFIG, config)
        return cls(path)

    def config(self) -> dict[str, Any]:
        """The configuration that rank 0 resolved."""
        return json.loads((self.path / CONFIG).read_text(encoding="utf-8"))

    def remove(self) -> None:
        """Remove it; ranks that still run end."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextlib.contextmanager
    def supervised(self, record: Callable[[str], None]) -> Iterator[None]:
        """On rank 0: whatever ends another rank ends this process, with that rank's message.

        Lightning's observer (2.6) would kill it within five seconds, without a message and exit code.

        Args:
            record: called with the message where this process has to be ended, since it hangs.

        Raises:
            UserError: another rank failed; the message is that rank's.
        """
        from pytorch_lightning.strategies.launchers import subprocess_script

        observer = subprocess_script._launch_process_observer
        setattr(subprocess_script, "_launch_process_observer", self._children.extend)  # noqa: B010 (for mypy)

        def end() -> None:
            record(self.failure() or "")
            print(f"error: {self.failure()}", file=sys.stderr, flush=True)
            for child in self._children:
                child.kill()
            self.remove()
            os._exit(1)

        over = threading.Event()
        _watch(lambda: self.failure() is not None, end, over, GRACE)
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            # A rank that fails says so before its connections end; one that was killed is found after.
            failure = self._said()
            if failure is None:
                time.sleep(TICK)
                failure = self._ended()
            if failure is None:
                raise
            raise UserError(failure) from error
        finally:
            over.set()
            subprocess_script._launch_process_observer = observer
            self.remove()

    def failure(self) -> str | None:
        """Which rank failed first, and why; None where none has."""
        return self._said() or self._ended()

    def _said(self) -> str | None:
        with contextlib.suppress(OSError):
            return (self.path / FAILURE).read_text(encoding="utf-8")
        return None

    def _ended(self) -> str | None:
        """Which of the ranks that this process started has ended without a word."""
        for rank, child in enumerate(self._children, 1):
            if (code := child.poll()) is not None and code < 0:
                name = signal.Signals(-code).name
                return f"rank {rank} was killed by {name}; the system's log may say why (memory?)"
            if code:
                return f"rank {rank} ended with exit code {code}"
        return None

    @contextlib.contextmanager
    def reported(self) -> Iterator[None]:
        """On another rank: leave it to rank 0 to say why this one fails, and end with it.

        The exit code is 1 on a failure, and 0 otherwise: how a run that a signal stopped ends is rank 0's to
        say, and a launcher must not kill it while it does.
        """
        from pytorch_lightning.utilities import rank_zero_only

        parent, over = os.getppid(), threading.Event()

        def end() -> None:
            if os.getppid() != parent:  # killed, so that it removed nothing
                self.remove()
            os._exit(1)

        _watch(lambda: os.getppid() != parent, end, over, 0)
        _watch(lambda: self._said() is not None or not self.path.exists(), end, over, GRACE)
        try:
            yield
        except SystemExit as exit:
            failed = isinstance(exit.code, str) or exit.code == 1
            sys.exit(1 if failed else 0)
        except KeyboardInterrupt:
            sys.exit(0)
        except Exception as error:
            time.sleep(TICK)  # a killed parent's connections end before it does
            if os.getppid() != parent:
                end()
            if self._said() is None:  # else it is the consequence of another's failure
                line = mistake(error) or unforeseen(error, self.path.parent)
                self._fail(f"rank {getattr(rank_zero_only, 'rank', 0)}: {line}")
            sys.exit(1)
        finally:
            over.set()

    def _fail(self, line: str) -> None:
        """Say why this rank fails, unless another was first."""
        with contextlib.suppress(OSError):
            aside = beside(self.path / FAILURE)
            aside.write_text(line, encoding="utf-8")
            os.link(aside, self.path / FAILURE)


def _watch(
    is_over: Callable[[], bool], end: Callable[[], None], stopped: threading.Event, grace: float
) -> None:
    """Call `end` some seconds after a condition first held, unless `stopped` is set before."""

    def watch() -> None:
        while not stopped.wait(TICK):
            if is_over():
                if not stopped.wait(grace):
                    end()
                return

    threading.Thread(target=watch, daemon=True, name="watch over the ranks").start()
