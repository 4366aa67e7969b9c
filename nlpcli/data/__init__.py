"""From files to batches of token ids: readers, memory-mapped shards, packing and length bucketing."""
