"""The parts every model is made of: norms, feed-forward layers, embeddings, positions, the vocabulary's loss."""
