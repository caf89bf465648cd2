"""Whether W&B is online, offline or disabled, and why."""

import os
import threading
import urllib.error
import urllib.request
from typing import NamedTuple

TIMEOUT = 5.0  # seconds in which a W&B server must answer, or the run is logged offline


class Mode(NamedTuple):
    """A mode of wandb.init, and why it isn't `online`."""

    name: str
    reason: str = ""


def choose_mode(mode: str | None, offline: bool, api_key: str | None) -> Mode:
    """The mode that is asked for; where that is `online`, offline unless there is a key and a server.

    Args:
        mode: `logger.wandb.mode`; else WANDB_DISABLED, WANDB_MODE and W&B's settings files (`wandb offline`)
            are asked.
        offline: `logger.wandb.offline`, Lightning's word for mode=offline.
        api_key: one that is given explicitly.
    """
    if mode is None and offline:
        mode = "offline"
    if mode is None and os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on"):
        mode = "disabled"
    if mode not in (None, "online", "run"):
        return Mode(mode, "as configured")
    import wandb

    settings = wandb.setup().settings
    if mode is None and settings.mode not in ("online", "run"):
        return Mode(settings.mode, "as configured for W&B")
    if not (api_key or wandb.login(prompt=False, verify=False)):
        return Mode("offline", "no API key is configured")
    if not _answers(settings.base_url):
        return Mode("offline", f"{settings.base_url} can't be reached")
    return Mode("online")


def _answers(url: str) -> bool:
    """Whether a server answers in time, through a proxy if one is configured; any HTTP status will do."""
    answered = threading.Event()

    def ask() -> None:
        """Set `answered` on any answer."""
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT).close()
        except urllib.error.HTTPError:
            pass
        except urllib.error.URLError as error:
            if "CERTIFICATE" not in str(error.reason):  # W&B has settings of its own for certificates
                return
        except OSError:
            return
        answered.set()

    # In a thread, since the lookup of a name has no timeout.
    thread = threading.Thread(target=ask, daemon=True, name="is W&B there")
    thread.start()
    thread.join(2 * TIMEOUT)
    return answered.is_set()
