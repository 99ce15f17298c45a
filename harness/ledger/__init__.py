"""What really happened, block by block, and what books must say of it; pure."""
