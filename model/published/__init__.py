"""What other projects' public checkpoints need: translated once into a folder that is a model."""
