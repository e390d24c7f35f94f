"""Tables joined from published, counted and measured numbers."""
