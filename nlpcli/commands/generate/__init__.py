"""`nlpcli generate`: continuing a text, and answering tasks with prompts."""
