"""Foreign weight files in and out, without running anything that stands in them."""
