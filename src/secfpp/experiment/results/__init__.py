"""What runs leave: results in files, and the figures that are read from them."""
