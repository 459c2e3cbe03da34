"""A teacher's outputs for every training image under a number of augmentations, so that it runs only once."""
