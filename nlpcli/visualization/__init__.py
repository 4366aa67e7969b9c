"""Looking at attention: what is drawn, and how: in the terminal, as a figure, as a page, as numbers."""
