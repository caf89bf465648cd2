"""Serve a checkpoint: `python -m autocaption.serve --checkpoint PATH`, then open the address in a browser."""

import errno
import logging
import socket
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autocaption.checks import number, whole
from autocaption.errors import UserError
from autocaption.exits import one_line_errors
from autocaption.serve.arguments import parser

log = logging.getLogger("autocaption.serve")


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; requests in work are answered first.

    Args:
        argv: the command's words; None for those of the process.
    """
    arguments = parser().parse_args(argv)
    one_line_errors(lambda: serve(**vars(arguments)))


def serve(
    checkpoint: Path,
    host: str,
    port: int,
    device: str,
    precision: str | None,
    max_megabytes: float,
    max_megapixels: float,
    queue: int,
    batch_size: int,
    batch_window: float,
    timeout: float,
) -> None:
    """Load the model, then serve it; the arguments are those of the command.

    Raises:
        UserError: an argument is out of range, the address is taken, or the checkpoint can't be loaded.
    """
    whole("--port", port, 0, 65535)
    whole("--queue", queue, 1)
    whole("--batch-size", batch_size, 1)
    number("--max-megabytes", max_megabytes, above=0, at_most=1000)
    number("--max-megapixels", max_megapixels, above=0, at_most=1000)
    number("--batch-window", batch_window, 0, 1000)
    number("--timeout", timeout, above=0)
    listening = _listening(host, port)  # before the model, which takes seconds
    try:
        import python_multipart  # noqa: F401  (Starlette would miss it at the first upload only)
        import uvicorn

        from autocaption.serve.app import application
        from autocaption.serve.assets import assets, samples
        from autocaption.serve.captioning import Captioning
        from autocaption.serve.service import Service
        from autocaption.serve.uploads import Limits
    except ModuleNotFoundError as error:
        raise UserError(f"serving needs {error.name}: pip install 'autocaption[serve]'") from None

    from autocaption.api import load
    from autocaption.features.folding import folded

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    warnings.filterwarnings("ignore", module="PIL")  # of what is odd in strangers' pictures
    model, drawn = load(checkpoint, device, precision), samples()
    captioner: Any = model.captioner
    example_CHW = model.prepare(drawn[0].content).pixels_CHW
    captioner.encoder = folded(captioner.encoder, example_CHW[None].to(model.device))
    captioning = Captioning(model, drawn[0].content)
    service = Service(
        captioning,
        Limits(round(max_megabytes * 1e6), round(max_megapixels * 1e6), timeout),
        places=queue,
        batch_size=batch_size,
        window=batch_window / 1000,
        seconds=timeout,
    )
    files = assets(drawn, limits=service.limits, attends=captioning.attends)
    config = uvicorn.Config(
        application(service, files),
        log_level="warning",
        timeout_graceful_shutdown=round(timeout) + 1,
        server_header=False,
    )
    try:
        listening.listen(2048)
    except OSError as error:  # until one listens, several may bind an address
        raise _refused(host, port, error) from None
    shown = f"[{host}]" if ":" in host else host
    log.info("Serving %s on http://%s:%d", checkpoint.name, shown, listening.getsockname()[1])
    uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket bound to the address."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        return bound
    except OSError as error:
        raise _refused(host, port, error) from None


def _refused(host: str, port: int, error: OSError) -> UserError:
    advice = "take another --port" if error.errno == errno.EADDRINUSE else "check --host and --port"
    return UserError(f"cannot listen on {host}:{port}: {error.strerror}; {advice}")


if __name__ == "__main__":
    main()
