"""Where raw images come from."""
