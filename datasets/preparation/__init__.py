"""From a source to a prepared dataset; erasure of examples; pictures of what is there."""
