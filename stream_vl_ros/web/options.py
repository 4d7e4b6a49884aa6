"""Every parameter of the live page, in one place: process, launch file and README follow it.

Plain data: importing it needs neither ROS nor a web framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stream_vl_ros.errors import ConfigError
from stream_vl_ros.ros.parameters import Parameter, Value

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("node", "/stream_vl", "Name of the node that the page shows, with its namespace."),
    Parameter(
        "host", "127.0.0.1", "Address to listen on: '127.0.0.1' is this machine alone; another one needs a password."
    ),
    Parameter("port", 8321, "Port to listen on; 0 takes a free one.", 0, 65535),
    Parameter(
        "password_file",
        "",
        "File whose first line is the password; the environment variable STREAM_VL_WEB_PASSWORD does as well.",
    ),
    Parameter("hosts", "", "More names under which browsers may ask for the page, with commas between them."),
    Parameter(
        "presets",
        "What is visible now? | What happened so far? | How many objects are there? | Describe the scene.",
        "Questions that are offered, with | between them.",
    ),
    Parameter("history_folder", "", "Folder that keeps questions and answers beyond this process; empty keeps none."),
    Parameter("history_entries", 200, "Questions and answers that are kept; the oldest go first.", 1, 10000),
    Parameter("moments", 1200, "Small pictures that are kept of each camera, two for each second.", 2, 100000),
    Parameter("live_fps", 10.0, "Pictures per second that are sent to browsers at the most.", 0.1, 60.0),
    Parameter("max_upload_mib", 2048, "MiB that a dropped video or bag may have.", 1, 10**6),
    Parameter("max_clients", 16, "Pages that may be open at the same time.", 1, 1000),
    Parameter("open_browser", False, "Open the page in a browser, where there is a display."),
)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class WebOptions:
    """The parameters, checked together.

    Attributes:
        password: empty if none is asked for.
        the others: as their parameters.
    """

    node: str = "/stream_vl"
    host: str = "127.0.0.1"
    port: int = 8321
    password: str = ""
    hosts: tuple[str, ...] = ()
    presets: tuple[str, ...] = ()
    history_folder: Path | None = None
    history_entries: int = 200
    moments: int = 1200
    live_fps: float = 10.0
    max_upload_mib: int = 2048
    max_clients: int = 16
    open_browser: bool = False

    def __post_init__(self) -> None:
        parts = self.node.split("/")
        if parts[0] or len(parts) < 2 or not all(p.isidentifier() and p.isascii() for p in parts[1:]):
            raise ConfigError(f"parameter node={self.node!r}: must be the full name of a node, such as /stream_vl")
        if not self.is_local and not self.password:
            raise ConfigError(
                f"parameter host={self.host!r}: everybody who reaches this machine could ask, watch and upload, so an "
                "address other than 127.0.0.1 needs a password: set STREAM_VL_WEB_PASSWORD or password_file"
            )

    @property
    def is_local(self) -> bool:
        """Whether the page can be reached from this machine alone."""
        return self.host in _LOOPBACK


def web_options(values: Mapping[str, Value], environment: Mapping[str, str]) -> WebOptions:
    """The options from parameters and environment.

    Raises:
        ConfigError: for a value that cannot work, with the reason.
    """
    v = {p.name: p.check(values.get(p.name, p.default)) for p in PARAMETERS}
    return WebOptions(
        node="/" + str(v["node"]).strip("/"),
        host=str(v["host"]),
        port=int(v["port"]),
        password=_password(str(v["password_file"]), environment),
        hosts=_parts(str(v["hosts"]), ","),
        presets=_parts(str(v["presets"]), "|"),
        history_folder=Path(str(v["history_folder"])).expanduser() if v["history_folder"] else None,
        history_entries=int(v["history_entries"]),
        moments=int(v["moments"]),
        live_fps=float(v["live_fps"]),
        max_upload_mib=int(v["max_upload_mib"]),
        max_clients=int(v["max_clients"]),
        open_browser=bool(v["open_browser"]),
    )


def _password(file: str, environment: Mapping[str, str]) -> str:
    if not file:
        return environment.get("STREAM_VL_WEB_PASSWORD", "")
    try:
        lines = Path(file).expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"parameter password_file={file!r}: cannot be read ({error})") from error
    if not lines or not lines[0].strip():
        raise ConfigError(f"parameter password_file={file!r}: its first line is empty; write the password there")
    return lines[0].strip()


def _parts(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


def markdown() -> str:
    """The table of all parameters for the README."""
    lines = ["| parameter | default | allowed | meaning |", "|---|---|---|---|"]
    for p in PARAMETERS:
        allowed = "" if p.low is None or p.high is None else f"{p.low:g} to {p.high:g}"
        default = str(p.default).lower() if isinstance(p.default, bool) else str(p.default).replace("|", "\\|")
        lines.append(f"| `{p.name}` | `{default}` | {allowed} | {p.description.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
