"""The notebook lint: what the anatomy asks of every notebook of the series."""
