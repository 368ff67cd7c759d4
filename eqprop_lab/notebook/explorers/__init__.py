"""The explorers of the series, one file per topic: sliders and a picture on top of the package's
own functions.
"""
