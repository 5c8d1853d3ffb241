"""What the token endpoint can do, one grant a file."""
