"""What is injected into assets: the warehouse, inference and GPUs."""
