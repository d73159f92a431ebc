"""Sphinx configuration: the Markdown pages and the public names."""

from fluogan_core import __version__

project = "fluogan_core"
author = "the fluogan_core developers"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "fluogan_core"
numpydoc_show_class_members = False
autodoc_typehints = "none"
autodoc_mock_imports = ["deepinv"]  # it may not load beside the pinned torch
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository beside these pages
