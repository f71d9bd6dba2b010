"""What a trial leaves for use: its model with its preprocessing, its predictions on new images, its export."""
