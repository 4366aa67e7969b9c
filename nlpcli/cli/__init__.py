"""What a person types: one thin file per command, and the terminal."""
