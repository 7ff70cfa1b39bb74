"""What several adapters share. Nothing in here is an adapter."""
