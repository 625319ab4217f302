"""Draw the pictures of the pages: one palette, diagrams, and screens of the command."""
