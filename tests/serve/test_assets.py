"""The page as it is sent: whole, of this host only, and by its own policy."""

import io
import json
import re
from html.parser import HTMLParser

import yaml
from helpers import ROOT
from helpers.serving import page
from PIL import Image

from autocaption.serve.arguments import parser
from autocaption.serve.uploads import FORMATS, READABLE, Limits

FILES = page(Limits(10_000_000, 50_000_000, 30.0), True)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def text(name):
    return FILES[name].content.decode()


def test_the_page_needs_nothing_that_is_not_served():
    tags = Tags(text("index.html")).tags
    named = [one[key] for _, one in tags for key in ("src", "href", "data-sample") if key in one]
    assert len(named) > 10
    assert {name for name in named if not name.startswith("api/")} <= set(FILES)
    imports = {
        name
        for file in FILES
        if file.endswith(".js")
        for name in re.findall(r'from "\./([^"]+)"', text(file))
    }
    assert imports
    assert imports <= set(FILES)
    for name in FILES:
        if not name.endswith(".png"):
            assert not re.search(r"(?:https?:)?//(?!www\.w3\.org)[a-z]+\.[a-z]", text(name)), name


def test_nothing_is_inline():
    for tag, attributes in Tags(text("index.html")).tags:
        assert tag != "style"
        assert tag != "script" or "src" in attributes
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_the_page_tells_the_limits():
    assert "up to 10&nbsp;MB" in text("index.html")
    assert READABLE in text("index.html")
    assert 'data-max-bytes="10000000"' in text("index.html")
    assert len(FORMATS) >= 6


def test_samples_are_different_pictures():
    pictures = {one.content for name, one in FILES.items() if name.startswith("samples/")}
    assert len(pictures) == 8
    assert {Image.open(io.BytesIO(one)).size for one in pictures} == {(384, 384)}


def test_the_container_starts_the_service_as_nobody_special():
    lines = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
    words = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    entry = json.loads(words["ENTRYPOINT"])
    assert entry[:3] == ["python", "-m", "autocaption.serve"]
    arguments = parser().parse_args([*entry[3:], *json.loads(words["CMD"])])
    assert (arguments.host, str(arguments.checkpoint)) == ("0.0.0.0", "/model/best.ckpt")
    assert words["USER"] == "autocaption"
    assert f":{arguments.port}/api/health" in words["HEALTHCHECK"]
    compile(json.loads(words["HEALTHCHECK"].partition("CMD ")[2])[2], "health", "exec")

    (service,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    assert service["ports"] == [f"127.0.0.1:{arguments.port}:{arguments.port}"]
    (volume,) = service["volumes"]
    assert volume["source"] == "./runs/demo/checkpoints"
    assert volume["target"] == str(arguments.checkpoint.parent)
    assert volume["read_only"]
    assert not volume["bind"]["create_host_path"]  # nor a folder of root's where there is no model yet
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored.index("conf/local") > ignored.index("!conf")  # a machine's own settings, keys among them
    carried = [line[1:] for line in ignored if line[0] == "!"]
    assert {"autocaption", "conf", "pyproject.toml"} <= set(carried)
    assert all((ROOT / name).exists() for name in carried)
