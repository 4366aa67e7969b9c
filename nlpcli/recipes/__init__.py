"""One plain function per command: typed settings in, result out; no Typer, no printing. This is the Python API."""
