"""The documentation as a site: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extension"), str(HERE.parent)]

from harness.evidence.codec import harness_version  # noqa: E402

project = "tcp-harness"
author = copyright = "the contributors to tcp-harness"  # noqa: A001
version = release = harness_version()

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "sphinx_copybutton",
    "generated",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "changes/*", "extension/*", "ci/*"]
suppress_warnings = ["myst.header"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other libraries, and our private ones
linkcheck_ignore = [r"https?://(HOST|localhost|127\.).*"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# A file of the project that is no page: a program, a schema, a patch.
myst_all_links_external = False

# In a docstring `name` is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "show-inheritance": False}
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"tcp-harness {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("filter.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False, "top_of_page_buttons": []}
# The contrast that WCAG AA asks for, which the themes of these two lack in places.
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_prompt_text = "$ "
