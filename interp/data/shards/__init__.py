"""Token shards: files of token ids, written once and mapped into memory."""
