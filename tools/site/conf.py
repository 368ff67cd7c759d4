"""Sphinx: the web edition. The sources are made by `pages`; nothing is executed or downloaded."""

project = "eqprop_lab"
author = "eqprop_lab contributors"
extensions = ["myst_nb"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
mathjax_path = "mathjax/es5/tex-mml-chtml.js"
html_theme = "sphinx_book_theme"
html_title = "Equilibrium Propagation: the notebooks"
html_static_path = ["_static"]
html_css_files = ["pictures.css"]
html_theme_options = {"show_navbar_depth": 1, "use_download_button": True, "home_page_in_toc": True}
html_copy_source = False
