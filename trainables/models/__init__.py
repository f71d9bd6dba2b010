"""Networks, their optimisers, how images enter them, augmentation."""
