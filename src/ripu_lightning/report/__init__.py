"""What people look at: tables, a curve, pictures."""
