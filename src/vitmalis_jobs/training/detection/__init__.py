"""What the embedded detector learns from: clips with a teacher's labels, rendered scenes, augmentation, losses."""
