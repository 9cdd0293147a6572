"""What acts: distributions over valid actions, and the small student that starts careless."""
