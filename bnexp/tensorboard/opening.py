"""What TensorBoard opens on: a link with its filters set, and its page with an arm's colour that of the figures.

Its front end takes filters, pinned charts and the grouping of colours from the URL, but the colours are a palette inside its script, given
out in the order in which the groups appear. So the list of runs is put in order and the palette replaced as they are served. Where a later
version of the script has another palette it is served as it is: an arm has one colour then too, another one.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from bnexp.norms import NORMS
from bnexp.plots.style import OTHERS
from bnexp.tensorboard.names import ARM, MEANS, arms, in_order, label

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PINNED = ("val/accuracy", "val/loss")
OVERVIEW = f"^{MEANS}|-s0-"
"""The runs that the tabs other than Time Series show at first: means, and of the runs, which alone have pictures and histograms, seed 0."""
TAGS_FIRST = "^(val|train)/(accuracy|loss)|^confusion/|^gamma/"
"""What stands above all other tags: in Scalars, in Images and in Histograms, which share one filter and would show an empty box."""
PALETTE = re.compile(rb'colors:\[(\{name:"[^"]*",lightHex:"#\w{6}",darkHex:"#\w{6}"\},?)+\]')
NEXT_COLOUR = re.compile(rb"\.set\((\w+),(this\.palette\[\w+%this\.palette\.length\])\)")
FILTER = re.compile(rb'"(regexInput|tagFilter)",\{defaultValue:""')


def link(url: str, names: Sequence[str]) -> str:
    """The address of the Time Series tab with validation accuracy and loss pinned above all else, and of means only where there are
    means. Several arms have a colour each; of one arm each run has its own. A filter of tags would hide what is pinned."""
    query = {"smoothing": "0", "pinnedCards": json.dumps([{"plugin": "scalars", "tag": tag} for tag in PINNED], separators=(",", ":"))}
    if any(name.startswith(MEANS) for name in names):
        query["runFilter"] = f"^{MEANS}"
    if len(arms(names)) > 1:
        query["runColorGroup"] = f"regex:{ARM}"
    return f"{url}?{urlencode(query)}#timeseries"


def palette(shown: Sequence[str]) -> list[str]:
    """The colours of the arms shown, in order, then those of the norms that may still come, then the others."""
    own = [norm.colour for key in (*shown, *NORMS) if (norm := NORMS.get(key)) is not None]
    return list(dict.fromkeys([*(colour for colour in own if colour is not None), *OTHERS]))


def in_our_colours(app: WSGIApplication, names: Callable[[], Sequence[str]]) -> WSGIApplication:
    """TensorBoard's application, with the list of runs in order and the palette of the figures; `names`: what is shown now."""

    def changed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if not path.endswith(("/data/runs", "/index.js")):
            return app(environ, start_response)
        answer: list[tuple[str, list[tuple[str, str]]]] = []

        def keep(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[[bytes], object]:
            answer.append((status, headers))
            return lambda data: None

        body = b"".join(app({**environ, "HTTP_ACCEPT_ENCODING": "identity"}, keep))
        status, headers = answer[-1]
        if status.startswith("200"):
            body = _ordered(body) if path.endswith("runs") else _adapted(body, names())
        dropped = {"content-length", "cache-control", "expires"}  # a browser would keep the script of another folder for a day
        kept = [(key, value) for key, value in headers if key.lower() not in dropped]
        start_response(status, [*kept, ("Content-Length", str(len(body))), ("Cache-Control", "no-store")])
        return [body]

    return changed


def _ordered(body: bytes) -> bytes:
    return json.dumps(in_order(json.loads(body))).encode()


def _adapted(script: bytes, names: Sequence[str]) -> bytes:
    """The script with our palette for Time Series, and for the older tabs, which know no groups of runs, a colour an arm and
    filters that are set."""
    shown = arms(names)
    colours = palette(shown)
    entries = ",".join(f'{{name:"{colour}",lightHex:"{colour}",darkHex:"{colour}"}}' for colour in colours)
    script = PALETTE.sub(f"colors:[{entries}]".encode(), script, count=1)
    if len(shown) > 1:
        of_arms = json.dumps({label(arm): colour for arm, colour in zip(shown, itertools.cycle(colours), strict=False)})
        colour = b".set(%s,%s[(%s.match(%s)||[])[1]]||%s)"
        script = NEXT_COLOUR.sub(lambda found: colour % (found[1], of_arms.encode(), found[1], json.dumps(ARM).encode(), found[2]), script)
    if any(name.startswith(MEANS) for name in names):
        first = {b"regexInput": OVERVIEW, b"tagFilter": TAGS_FIRST}
        script = FILTER.sub(lambda found: b'"%s",{defaultValue:%s' % (found[1], json.dumps(first[found[1]]).encode()), script)
    return script
