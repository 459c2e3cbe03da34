"""The notebook of `famviz lab`."""
