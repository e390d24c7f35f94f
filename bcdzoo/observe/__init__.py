"""What a network's layers are seen to multiply while it runs: the forms and bits of their numbers."""
