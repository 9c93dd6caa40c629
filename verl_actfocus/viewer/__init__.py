"""`actfocus view`: trajectories as one self-contained page.

- `sources`: which files the paths of a command line stand for, and what each is called.
- `signals`: what tokens can be coloured by, derived signals included.
- `selection`: which trajectories go on the page, whole groups up to a limit.
- `writer`: the page, from the files in `page/`.
- `links`: addresses that open a trajectory on the page.

What a model or an environment wrote is untrusted. The page holds it compressed in base64 alone, which cannot become
markup, and its script turns it into text nodes.
"""

from verl_actfocus.viewer.links import Link, address, examples
from verl_actfocus.viewer.selection import Selection, select
from verl_actfocus.viewer.sources import Source, find_sources, run_source
from verl_actfocus.viewer.writer import write_page

__all__ = [
    "Link",
    "Selection",
    "Source",
    "address",
    "examples",
    "find_sources",
    "run_source",
    "select",
    "write_page",
]
