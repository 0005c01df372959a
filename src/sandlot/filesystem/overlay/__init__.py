"""Two file systems as one: layers and their marks, copying up, the merged whole."""
